"""The advisor's pure parts: who may think, who waits, what is over, what comes next. Times are given, nobody sleeps."""

from __future__ import annotations

import logging
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from placet.advisor.advice import Limits
from placet.advisor.breaker import Breaker, BreakerPhase
from placet.advisor.credentials import credentials
from placet.advisor.logs import Sparse
from placet.advisor.meter import ADVISOR_METRICS, EVENTS, Meter
from placet.advisor.progress import Progress
from placet.advisor.steps import backoff_s, sends_again_in_s, thinks_again
from placet.advisor.waiting import Drop, TriggerQueue
from placet.schemas.decision import Decision, Outcome, Reason
from placet.schemas.errors import SettingsError
from placet.schemas.messages import Kind

# -- the breaker -------------------------------------------------------------------------------------------------------


def failing(breaker: Breaker, times: int, now_s: float = 0.0) -> None:
    for _ in range(times):
        assert breaker.begin(now_s)
        breaker.learn("given_up", now_s)


def test_failures_in_a_row_open_it_and_a_success_between_them_does_not() -> None:
    breaker = Breaker(failures=3, open_s=10)
    failing(breaker, 2)
    breaker.learn("answered", 0)
    failing(breaker, 2)
    assert breaker.phase(0) is BreakerPhase.CLOSED
    failing(breaker, 1)
    assert breaker.phase(0) is BreakerPhase.OPEN
    assert not breaker.begin(9.9)
    assert breaker.wait_s(4) == 6
    assert breaker.opened == 1


def test_after_a_while_one_probe_is_let_through_and_closes_it() -> None:
    breaker = Breaker(failures=1, open_s=10)
    failing(breaker, 1)
    assert breaker.phase(10) is BreakerPhase.HALF_OPEN
    assert breaker.begin(10)
    assert not breaker.begin(10), "one probe, not two"
    assert breaker.wait_s(10) is None, "the probe's end is what is waited for"
    breaker.learn("answered", 11)
    assert breaker.phase(11) is BreakerPhase.CLOSED
    assert breaker.begin(11)
    assert breaker.begin(11)


def test_a_probe_that_fails_opens_it_again_for_the_whole_time() -> None:
    breaker = Breaker(failures=3, open_s=10)
    failing(breaker, 3)
    failing(breaker, 1, now_s=10)
    assert breaker.phase(19) is BreakerPhase.OPEN
    assert breaker.opened == 2


def test_thoughts_begun_before_it_opened_do_not_open_it_again() -> None:
    breaker = Breaker(failures=2, open_s=10)
    for _ in range(4):
        assert breaker.begin(0)
    for end_s in (1, 2, 3, 8):
        breaker.learn("given_up", end_s)
    assert breaker.opened == 1
    assert breaker.phase(12) is BreakerPhase.HALF_OPEN, "10 s after the second failure, not after the last"


def test_a_probe_that_came_to_nothing_leaves_room_for_another() -> None:
    breaker = Breaker(failures=1, open_s=10)
    failing(breaker, 1)
    assert breaker.begin(10)
    breaker.learn("dropped_too_old", 10)
    assert breaker.begin(10)


# -- waiting -----------------------------------------------------------------------------------------------------------


class Waiter(NamedTuple):
    name: str
    topic: str = "it"


def room(drop: Drop, *names: str, bound: int = 3) -> TriggerQueue[Waiter]:
    made: TriggerQueue[Waiter] = TriggerQueue(bound, drop)
    for name in names:
        waiter = Waiter(name, name)
        made.offer(waiter)
        made.ready(waiter)
    return made


def taken(waiting: TriggerQueue[Waiter]) -> list[str]:
    found = []
    while waiter := waiting.take():
        found.append(waiter.name)
    return found


def test_who_came_first_is_taken_first_among_those_that_are_ready() -> None:
    waiting = room(Drop.OLDEST)
    first, second = Waiter("first"), Waiter("second")
    waiting.offer(first)
    waiting.offer(second)
    assert waiting.take() is None
    waiting.ready(second)
    waiting.ready(first)
    assert taken(waiting) == ["second", "first"]
    assert len(waiting) == 0


def test_the_oldest_goes_when_there_is_no_room() -> None:
    waiting = room(Drop.OLDEST, "a", "b", "c")
    assert waiting.offer(Waiter("d", "d")) == [(Waiter("a", "a"), "oldest")]
    assert taken(waiting) == ["b", "c"]
    assert len(waiting) == 1


def test_the_newest_goes_when_there_is_no_room() -> None:
    waiting, newest = room(Drop.NEWEST, "a", "b", "c"), Waiter("d", "d")
    assert waiting.offer(newest) == [(newest, "newest")]
    assert newest not in waiting
    assert taken(waiting) == ["a", "b", "c"]


def test_a_newer_one_about_the_same_supersedes_the_one_that_waits() -> None:
    waiting = room(Drop.SUPERSEDE, "a", "b")
    newer = Waiter("a again", "a")
    assert waiting.offer(newer) == [(Waiter("a", "a"), "superseded")]
    waiting.ready(newer)
    assert taken(waiting) == ["b", "a again"]


def test_superseding_falls_back_to_the_oldest() -> None:
    waiting = room(Drop.SUPERSEDE, "a", "b", "c")
    assert waiting.offer(Waiter("d", "d")) == [(Waiter("a", "a"), "oldest")]


def test_who_must_not_be_dropped_has_to_wait_outside() -> None:
    waiting = room(Drop.WAIT, "a", "b")
    assert not waiting.full
    assert waiting.offer(Waiter("c", "c")) == []
    assert waiting.full


def test_what_somebody_has_in_hand_is_passed_over() -> None:
    waiting = room(Drop.OLDEST, "a", "b")
    assert waiting.take({"a"}) == Waiter("b", "b")
    assert waiting.take({"a"}) is None
    assert waiting.take() == Waiter("a", "a")


def test_those_who_leave_are_named_and_are_not_taken() -> None:
    waiting = room(Drop.OLDEST, "a", "b", "c")
    assert [waiter.name for waiter in waiting.leave(lambda waiter: waiter.name != "b")] == ["a", "c"]
    assert taken(waiting) == ["b"]


@given(
    st.sampled_from(Drop),
    st.integers(1, 4),
    st.lists(st.tuples(st.sampled_from(["offer", "take", "leave"]), st.integers(0, 3)), max_size=60),
)
def test_everyone_who_came_is_waiting_or_taken_or_gone_and_never_too_many(
    drop: Drop, bound: int, moves: list[tuple[str, int]]
) -> None:
    waiting: TriggerQueue[Waiter] = TriggerQueue(bound, drop)
    came, went = 0, 0
    for move, about in moves:
        if move == "offer" and not (drop is Drop.WAIT and waiting.full):
            waiter = Waiter(f"{came}", f"{about}")
            came += 1
            went += len(waiting.offer(waiter))
            waiting.ready(waiter)
        elif move == "take":
            went += waiting.take() is not None
        elif move == "leave":
            went += len(waiting.leave(lambda waiter, about=about: waiter.topic == f"{about}"))
        assert len(waiting) == came - went
        assert len(waiting) <= bound
    assert len(taken(waiting)) == came - went


# -- progress ----------------------------------------------------------------------------------------------------------


def test_the_position_waits_for_the_oldest_that_is_not_over() -> None:
    progress = Progress()
    assert progress.position is None
    for offset in (5, 6, 7, 9):  # 8 is a marker of a transaction
        assert progress.take(offset, 1)
    for offset in (6, 7, 9):
        progress.end(offset)
    assert progress.position == 5
    progress.end(5)
    assert progress.position == 10
    assert len(progress) == 0


def test_what_a_rebalance_brings_again_is_known() -> None:
    progress = Progress()
    for offset in range(5):
        progress.take(offset, 1)
    progress.end(0)
    progress.end(2)
    progress.renew()
    assert progress.position is None, "the group may stand elsewhere by now"
    assert [progress.take(offset, 2) for offset in range(6)] == [False, False, False, False, False, True]
    assert progress.position == 1


def test_what_another_member_has_done_meanwhile_is_over() -> None:
    progress = Progress()
    for offset in range(5):
        progress.take(offset, 1)
    progress.renew()
    assert progress.take(100, 4)
    progress.end(3)
    assert progress.position == 100


def test_what_was_over_here_counts_once_another_member_has_come_so_far() -> None:
    progress = Progress()
    for offset in (3, 5):
        progress.take(offset, 1)
    progress.end(5)
    progress.renew()
    assert not progress.take(5, 4), "it was over here"
    assert progress.position == 6


@given(st.data(), st.lists(st.booleans(), min_size=30, max_size=30))
def test_nothing_is_committed_past_what_is_not_over(data: st.DataObject, is_record: list[bool]) -> None:
    """A member that reads, ends in any order, commits, and loses and regains the partition at what is committed."""
    records = [offset for offset, found in enumerate(is_record) if found]  # the others are markers of transactions
    progress, generation, next_offset, committed = Progress(), 1, 0, 0
    in_hand: set[int] = set()
    over: set[int] = set()
    is_placed = False  # whether a record has told where the group stands
    for move in data.draw(st.lists(st.sampled_from(["read", "read", "end", "commit", "rebalance"]), max_size=80)):
        to_read = [offset for offset in records if offset >= next_offset]
        match move:
            case "read" if to_read:
                is_new = progress.take(to_read[0], generation)
                assert is_new == (to_read[0] not in in_hand | over), "once in this process, however often it is read"
                in_hand |= {to_read[0]} if is_new else set()
                next_offset, is_placed = to_read[0] + 1, True
            case "end" if in_hand:
                ended = data.draw(st.sampled_from(sorted(in_hand)))
                in_hand.discard(ended)
                over.add(ended)
                progress.end(ended)
            case "commit" if progress.position is not None:
                committed = max(committed, progress.position)
                assert {offset for offset in records if offset < committed} <= over
            case "rebalance":
                generation, next_offset, is_placed = generation + 1, committed, False
                progress.renew()
    while in_hand:
        progress.end(in_hand.pop())
    assert (progress.position is not None) == is_placed
    assert progress.position is None or progress.position >= next_offset, "when all is over, all is committed"


# -- what comes next ---------------------------------------------------------------------------------------------------


def decision(reason: Reason, version: int = 3) -> Decision:
    outcome = Outcome.ACCEPTED if reason is Reason.NONE else Outcome.REFUSED
    return Decision(
        outcome, reason, Kind.PROPOSAL, "hold", "p", "o", "k", b"", False, version, version, 1, "open", "open"
    )  # fmt: skip


@pytest.mark.parametrize(
    ("reason", "version_read", "again"),
    [
        (Reason.NONE, 3, False),
        (Reason.STALE, 2, True),
        (Reason.EXPIRED, 3, True),
        (Reason.GUARD_FAILED, 2, True),
        (Reason.GUARD_FAILED, 3, False),  # the same state gives the same answer
        (Reason.ILLEGAL_TRANSITION, 3, False),
        (Reason.INVALID_PAYLOAD, 2, False),
        (Reason.DEDUP_KEY_REUSED, 2, False),
        (Reason.SHED, 2, False),
    ],
)
def test_thinking_again_is_for_what_a_fresh_state_can_mend(reason: Reason, version_read: int, again: bool) -> None:
    assert thinks_again(decision(reason), version_read, 0, 3) is again
    assert not thinks_again(decision(reason), version_read, 3, 3), "a bounded number of times"


def test_the_same_is_sent_again_when_the_gate_says_later_or_nothing() -> None:
    assert sends_again_in_s(decision(Reason.SHED), 0, 2) == 0.5
    assert sends_again_in_s(None, 1, 2) == 1.0
    assert sends_again_in_s(None, 2, 2) is None
    assert sends_again_in_s(decision(Reason.STALE), 0, 2) is None
    assert [backoff_s(times) for times in (0, 1, 2, 3, 4, 5, 5_000)] == [0.5, 1, 2, 4, 8, 10, 10]


# -- limits, metrics, credentials --------------------------------------------------------------------------------------


def test_a_limit_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(SettingsError, match="`ceiling` is 0: it must be at least 1"):
        Limits(ceiling=0)
    with pytest.raises(SettingsError, match="`timeout_s` is 0: it must be more than 0"):
        Limits(timeout_s=0)
    with pytest.raises(SettingsError, match=r"`drop` is 'wait': it must be one of \['oldest'"):
        Limits(drop="wait")  # Drop.WAIT is meant
    assert Limits(settle_s=0, recomputes=0).settle_s == 0


def test_no_trigger_is_so_old_that_the_gate_may_have_forgotten_its_answer() -> None:
    day_ms = 86_400_000
    assert Limits().max_age_ms(day_ms) == 600_000
    assert Limits().max_age_ms(60_000) == 30_000
    assert Limits(max_age_s=3600).max_age_ms(day_ms) == 3_600_000
    with pytest.raises(SettingsError, match=r"horizon is 60 s.*applied twice"):
        Limits(max_age_s=60).max_age_ms(60_000)


def test_every_event_is_counted_from_zero_under_a_name_of_the_table() -> None:
    meter = Meter("noter")
    names = {metric.name for metric in ADVISOR_METRICS}
    for name, event in EVENTS.items():
        assert event.metric in names
        assert meter.registry.get_sample_value(event.metric, _labels(event.metric, name)) == 0
        meter.count(name)
        assert meter.registry.get_sample_value(event.metric, _labels(event.metric, name)) == 1
    assert meter.counts["never"] == 0


def _labels(metric: str, event: str) -> dict[str, str]:
    return {"advisor": "noter", "kind" if "retries" in metric else "result": event}


def test_decisions_are_counted_by_outcome_and_reason() -> None:
    meter = Meter("noter")
    meter.decided(decision(Reason.NONE))
    meter.decided(decision(Reason.STALE))
    assert dict(meter.counts) == {"accepted": 1, "refused_STALE": 1}
    labels = {"advisor": "noter", "outcome": "REFUSED", "reason": "STALE"}
    assert meter.registry.get_sample_value("placet_advisor_decisions_total", labels) == 1


def test_user_and_password_reach_fausts_client() -> None:
    assert credentials({"linger.ms": "5"}) is None
    sasl = {"sasl.mechanism": "SCRAM-SHA-512", "sasl.username": "u", "sasl.password": "p"}
    told = credentials({"security.protocol": "sasl_plaintext", **sasl})
    assert (told.username, told.password, told.mechanism.value) == ("u", "p", "SCRAM-SHA-512")
    assert credentials({"security.protocol": "SSL"}).protocol.value == "SSL"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"security.protocol": "SASL_SSL", "sasl.mechanism": "OAUTHBEARER"}, "knows no sasl.mechanism `OAUTHBEARER`"),
        ({"sasl.kerberos.keytab": "x"}, r"can't be told sasl\.kerberos\.keytab"),
        ({"security.protocol": "SSL", "ssl.ca.location": "/nowhere.pem"}, "TLS files can't be read"),
    ],
)
def test_a_security_option_that_would_be_ignored_is_refused(options: dict[str, str], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        credentials(options)


# -- what the page says ------------------------------------------------------------------------------------------------


def test_the_page_names_every_limit_and_every_metric() -> None:
    page = (Path(__file__).parents[2] / "docs" / "advisor.md").read_text()
    for limit in fields(Limits):
        assert f"`{limit.name}`" in page
    for drop in Drop:
        assert f"| `Drop.{drop.name}` |" in page
    for metric in ADVISOR_METRICS:
        row = f"| `{metric.name}` | {metric.kind} | {', '.join(metric.labels)} | {metric.unit} | {metric.help} |"
        assert row in page
    for name, event in EVENTS.items():
        assert f"| `{event.metric}` | `{name}` | {event.meaning} |" in page


def test_without_the_extra_it_says_what_to_install() -> None:
    hidden = "import importlib.util as u; f = u.find_spec; u.find_spec = lambda n: None if n == 'faust' else f(n)"
    done = subprocess.run(
        [sys.executable, "-c", f"{hidden}\nimport placet.advisor"], capture_output=True, text=True, check=False
    )
    assert done.stderr.splitlines()[-1] == "ImportError: placet.advisor needs faust: pip install 'placet[advisory]'"


def test_a_line_that_comes_ten_times_a_second_is_logged_once_a_minute() -> None:
    said: list[str] = []
    handler = Sparse()
    handler._log = SimpleNamespace(log=lambda _level, text, **_: said.append(text))
    for second in range(0, 130, 10):
        for node in (1, 2):
            record = logging.LogRecord("aiokafka", logging.ERROR, "", 0, "node %d is away", (node,), None)
            record.created = 1_000_000.0 + second
            handler.emit(record)
    assert said == ["node 1 is away"] * 3
