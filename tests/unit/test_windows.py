"""Windows and limits, through the driver: what was accepted within a time, as a user of a definition sees it."""

from __future__ import annotations

from pathlib import Path

import pytest

from placet.cli.shared import decision_form
from placet.client import Snapshot
from placet.client.compose import Composer
from placet.client.explain_text import detail_of
from placet.client.past import iso
from placet.definitions import parse_definition, problems_of
from placet.processors.machine import compile_problems
from placet.processors.windows import COUNTED_MAX, PROPOSERS_MAX
from placet.schemas.codec.codec import Codec
from placet.schemas.codec.inputs import made_message
from placet.schemas.decision import Decision, Outcome, Reason, Retry
from placet.schemas.definition.diff import differences
from placet.schemas.definition.model import Definition
from placet.schemas.ledger import Counted, Windows
from placet.schemas.messages import Kind
from placet.schemas.state import UNSEEN
from placet.streams.records import ConsumerRecord, TopicPartition
from placet.streams.recovery.steps import Restoration
from placet.streams.state import layout
from placet.streams.state.store import MemoryStore
from placet.streams.topology import TaskId
from placet.testing import TestDriver
from tests.corpus.check import verified
from tests.corpus.record import recorded_of
from tests.corpus.recording import Recording
from tests.memory_log import restore_at_once

HOUR_MS = 3_600_000
EXAMPLES = Path(__file__).parents[2] / "placet/schemas/examples"

ACCOUNT = """
entity: account
version: 1
horizon: 48h
statuses: [open, frozen]
fields: {spent: {type: long, default: 0}, asked: {type: long, default: 0}}
signals:
  opened: {from: absent, to: open}
  seen: {from: [open, frozen, absent]}
  thawed: {from: frozen, to: open}
  closed: {from: [open, frozen], to: absent}
proposals:
  alert: {from: open, fence: none, limits: window.alerts_1h < 2}
  refund:
    payload: {minor: long}
    fence: none
    from: open
    set: {spent: state.spent + payload.minor}
    limits: ["window.spent_24h + payload.minor <= 500", "window.spent_24h / (payload.minor - 7) >= 0"]
  reopen: {from: absent, to: open, fence: none, limits: window.seen_1h < 2}
windows:
  alerts_1h: {count: alert, within: 1h}
  spent_24h: {sum: refund.minor, within: 24h, by: proposer}
  seen_1h: {count: seen, within: 1h}
"""


def opened(text: str = ACCOUNT) -> TestDriver:
    driver = TestDriver.from_text(text)
    driver.signal("a", "opened", signal_id="s-1")
    return driver


def ask(driver: TestDriver, name: str = "alert", **given: object) -> Decision:
    payload = {key: given.pop(key) for key in ("minor",) if key in given}
    return driver.propose("a", name, payload, dedup_key=f"k-{len(driver.decisions)}", **given)  # type: ignore[arg-type]


def test_a_limit_refuses_what_is_beyond_it_and_says_until_when() -> None:
    driver = opened()
    first = driver.now_ms
    assert ask(driver).outcome is Outcome.ACCEPTED
    driver.advance(minutes=10)
    assert ask(driver).outcome is Outcome.ACCEPTED
    refused = ask(driver)
    assert (refused.outcome, refused.reason, refused.retry) == (Outcome.REFUSED, Reason.RATE_LIMITED, Retry.LATER)
    assert refused.detail == (
        f"limit `window.alerts_1h < 2` is false: window.alerts_1h is 2; not before {first + HOUR_MS}"
    )


def test_an_input_counts_while_it_is_less_than_the_time_ago() -> None:
    driver = opened()
    ask(driver)
    driver.advance(minutes=10)
    ask(driver)
    driver.advance(milliseconds=50 * 60_000 - 1)
    assert ask(driver).reason is Reason.RATE_LIMITED
    driver.advance(milliseconds=1)
    assert ask(driver).outcome is Outcome.ACCEPTED
    assert ask(driver).detail.endswith(f"not before {driver.now_ms + 10 * 60_000}")


def test_what_is_refused_never_counts_and_proposers_do_not_share_a_window() -> None:
    driver = opened()
    assert ask(driver, "refund", minor=400, proposer="ann").changed
    for _ in range(3):
        assert ask(driver, "refund", minor=101, proposer="ann").reason is Reason.RATE_LIMITED
    assert ask(driver, "refund", minor=500, proposer="bob").changed
    assert ask(driver, "refund", minor=100, proposer="ann").changed
    assert ask(driver, "refund", minor=1, proposer="ann").reason is Reason.RATE_LIMITED
    assert driver.read("a").fields["spent"] == 1_000


def test_a_repeat_does_not_count_and_is_told_so_though_the_limit_is_reached() -> None:
    driver = opened()
    for key in ("x", "x", "x", "y"):
        driver.propose("a", "alert", dedup_key=key)
    assert [decision.reason for decision in driver.decisions[1:]] == [
        Reason.NONE, Reason.REPEATED, Reason.REPEATED, Reason.NONE,
    ]  # fmt: skip
    assert driver.propose("a", "alert", dedup_key="x").reason is Reason.REPEATED
    assert driver.propose("a", "alert", dedup_key="z").reason is Reason.RATE_LIMITED


def test_a_limit_that_holds_at_no_time_says_so() -> None:
    refused = ask(opened(), "refund", minor=501)
    assert refused.reason is Reason.RATE_LIMITED
    assert refused.detail.endswith("window.spent_24h is 0; nothing is counted that could leave")


def test_a_decision_says_until_when_by_its_own_and_people_read_it_as_a_time() -> None:
    driver = opened()
    ask(driver)
    ask(driver)
    refused = ask(driver)
    assert refused.not_before == driver.now_ms + HOUR_MS
    assert decision_form(refused)["not_before"] == driver.now_ms + HOUR_MS
    assert detail_of(refused).endswith(f"window.alerts_1h is 2; not before {iso(driver.now_ms + HOUR_MS)}")
    assert ask(driver, "refund", minor=501).not_before is None
    assert driver.decisions[0].not_before is None


def test_a_client_foresees_what_changes_tell() -> None:
    driver, rules = opened(), parse_definition(ACCOUNT)
    composer = Composer(rules, Codec(rules), "ann")
    ask(driver, "refund", minor=400, proposer="ann")
    record = driver.log.records(TopicPartition(driver.topics.changelog, 0))[-1]
    seen = Snapshot.from_record(driver.codec, b"a", record.value, record.headers)
    for minor, reason in ((100, Reason.NONE), (101, Reason.RATE_LIMITED)):
        assert composer.would_accept(seen, "refund", {"minor": minor}, driver.now_ms).reason is reason
    foreseen = composer.would_accept(seen, "refund", {"minor": 101}, driver.now_ms)
    assert foreseen.detail == ask(driver, "refund", minor=101, proposer="ann").detail


def test_a_sum_of_more_than_64_bits_refuses_what_reads_it() -> None:
    """It must not stop the partition, as a value that can't be written does."""
    text = ACCOUNT.replace("seen: {from: [", "big: {payload: {minor: long}, from: open}\n  seen: {from: [").replace(
        "thawed: {from", "kept: {from: open, set: {spent: window.big_1h}}\n  thawed: {from"
    ).replace("window.alerts_1h < 2", "window.big_1h < 2")  # fmt: skip
    driver = opened(text + "  big_1h: {sum: big.minor, within: 1h}\n")
    for number in range(3):
        driver.signal("a", "big", {"minor": 2**63 - 1}, signal_id=f"b-{number}")
    kept = driver.signal("a", "kept", signal_id="s-2")
    assert (kept.reason, kept.detail) == (
        Reason.GUARD_ERROR, "value of `spent`: expected long, got 27670116110564327421",
    )  # fmt: skip
    assert ask(driver).reason is Reason.GUARD_ERROR
    driver.restart()
    assert ask(driver).reason is Reason.GUARD_ERROR
    driver.advance(hours=1)
    assert ask(driver).outcome is Outcome.ACCEPTED


def test_a_limit_that_can_not_be_evaluated_refuses() -> None:
    refused = ask(opened(), "refund", minor=7)
    assert refused.reason is Reason.GUARD_ERROR
    assert refused.detail.startswith("limit `window.spent_24h / (payload.minor - 7) >= 0`: ")


# Stored and restored --------------------------------------------------------------------------------------------------


def test_what_is_counted_is_restored_whether_it_changed_something_or_not() -> None:
    driver = opened()
    ask(driver)
    ask(driver)
    ask(driver, "refund", minor=300, proposer="ann")
    assert [type(entry) for entry in driver.ledger].count(Counted) == 2, "a change carries its own"
    driver.restart()
    assert ask(driver).reason is Reason.RATE_LIMITED
    assert ask(driver, "refund", minor=201, proposer="ann").reason is Reason.RATE_LIMITED
    ask(driver, "refund", minor=200, proposer="ann")
    driver.restart()
    assert ask(driver).reason is Reason.RATE_LIMITED, "the change carries what the ledger had"
    driver.advance(hours=1)
    assert ask(driver).outcome is Outcome.ACCEPTED


def test_windows_outlive_the_entity_and_come_before_its_status() -> None:
    driver = opened()
    ask(driver)
    ask(driver)
    driver.signal("a", "closed", signal_id="s-2")
    assert ask(driver).reason is Reason.RATE_LIMITED, "rung 6 stands before rung 7"
    driver.restart()
    driver.signal("a", "opened", signal_id="s-3")
    assert ask(driver).reason is Reason.RATE_LIMITED
    driver.advance(hours=1)
    assert ask(driver).outcome is Outcome.ACCEPTED


def ledger_of(driver: TestDriver, key: bytes) -> list[ConsumerRecord]:
    return [one for one in driver.log.records(TopicPartition(driver.topics.ledger, 0)) if one.key == key]


def test_an_entity_that_never_was_is_counted_too_and_forgotten_a_horizon_later() -> None:
    driver = TestDriver.from_text(ACCOUNT)
    for number in range(2):
        driver.signal("a", "seen", signal_id=f"s-{number}")
    driver.restart()
    assert ask(driver, "reopen").reason is Reason.RATE_LIMITED
    driver.advance(hours=48, seconds=60)
    assert driver.read("a") != UNSEEN
    driver.advance(milliseconds=1)
    assert driver.read("a") == UNSEEN
    assert [one.value is None for one in ledger_of(driver, b"counted/a")] == [False, False, True]
    driver.restart()
    assert driver.read("a") == UNSEEN
    assert ask(driver, "reopen").changed


def test_a_counted_entry_of_the_ledger_is_deleted_though_the_entity_lives() -> None:
    driver = opened()
    ask(driver)
    driver.advance(hours=49)
    assert [one.value is None for one in ledger_of(driver, b"counted/a")] == [False, True]
    driver.restart()
    assert ask(driver).outcome is Outcome.ACCEPTED


def test_the_wearable_calls_people_five_times_an_hour_and_then_the_timer_does() -> None:
    driver = TestDriver.from_file(EXAMPLES / "wearable.yaml")
    driver.signal("watch-1", "device_paired", signal_id="s-1")
    for episode in range(1, 7):
        driver.advance(seconds=10)
        driver.signal("watch-1", "heart_rate", {"bpm": 180}, signal_id=f"h-{episode}")
        said = {"episode": episode, "responder": "doctor", "summary": "180 at rest"}
        answer = driver.propose("watch-1", "escalate", said, proposal_id=f"p-{episode}")
        if answer.reason is Reason.NONE:
            driver.signal("watch-1", "all_clear", {"by": "nurse"}, signal_id=f"c-{episode}")
    assert (episode, answer.reason, answer.retry) == (6, Reason.RATE_LIMITED, Retry.LATER)
    driver.advance("31s")
    state = driver.read("watch-1")
    assert (state.status, state.fields["responder"]) == ("escalated", "caregiver")


# Guards, values, timers -----------------------------------------------------------------------------------------------


def test_guards_and_values_read_what_was_counted_before_the_input() -> None:
    text = ACCOUNT.replace("{from: open, fence: none, limits: window.alerts_1h < 2}", """
    fence: none
    transitions:
      - {from: open, guard: window.alerts_1h < 2}
      - {from: open, to: frozen, set: {asked: window.alerts_1h}}""")  # fmt: skip
    driver = opened(text)
    assert [ask(driver).status_after for _ in range(3)] == ["open", "open", "frozen"]
    assert driver.read("a").fields["asked"] == 2


TIMED = (
    ACCOUNT.replace("signals:\n", """timers:
  lapses: {from: open, after: 10s, to: frozen, guard: window.lapses_1h < 2}
  ticks: {from: open, after: 5s}
signals:
""", 1)
    + """  lapses_1h: {count: lapses, within: 1h}
  ticks_1h: {count: ticks, within: 1h}
"""
).replace("limits: window.alerts_1h < 2", "limits: window.ticks_1h < 1")  # fmt: skip


def test_timers_are_counted_and_read_windows() -> None:
    driver = opened(TIMED)
    for number in range(3):
        driver.advance(seconds=11)
        driver.signal("a", "thawed", signal_id=f"t-{number}")
    timers = [decision for decision in driver.decisions if decision.kind is Kind.TIMER]
    assert [timer.reason for timer in timers if timer.name == "lapses"] == [
        Reason.NONE, Reason.NONE, Reason.GUARD_FAILED,
    ]  # fmt: skip


def test_a_timer_that_changes_nothing_is_counted_across_a_restart() -> None:
    driver = opened(TIMED)
    driver.advance(seconds=6)
    driver.restart()
    assert ask(driver).reason is Reason.RATE_LIMITED
    driver.advance(seconds=6)
    assert driver.read("a").status == "frozen", "the other timer is armed still"
    assert not verified(recorded_of(driver), 0).findings


# New rules ------------------------------------------------------------------------------------------------------------

BEFORE = ACCOUNT[: ACCOUNT.index("windows:")].replace(", limits: window.alerts_1h < 2", "")
BEFORE = BEFORE[: BEFORE.index("    limits:")] + "  reopen: {from: absent, to: open, fence: none}\n"
SECOND = ACCOUNT.replace("version: 1", "version: 2")


def second(alerts: str) -> Definition:
    return parse_definition(SECOND.replace("count: alert, within: 1h", alerts))


def test_limits_refuse_until_a_new_window_was_kept_for_long_enough() -> None:
    driver = opened(BEFORE)
    for _ in range(5):
        ask(driver)
    last = driver.now_ms
    driver.advance(minutes=20)
    driver.restart(parse_definition(SECOND))
    refused = ask(driver)
    assert (refused.reason, refused.retry) == (Reason.RATE_LIMITED, Retry.LATER)
    assert refused.detail == (
        f"limit `window.alerts_1h < 2`: `window.alerts_1h` is kept since {last + 1}; not before {last + HOUR_MS}"
    )
    driver.restart()
    driver.advance(milliseconds=40 * 60_000 - 1)
    assert ask(driver).reason is Reason.RATE_LIMITED
    driver.advance(milliseconds=1)
    assert [ask(driver).reason for _ in range(3)] == [Reason.NONE, Reason.NONE, Reason.RATE_LIMITED]
    assert [len(entry.windows) for entry in driver.ledger if isinstance(entry, Windows)] == [3]


def test_a_window_that_starts_empty_counts_from_then_on() -> None:
    driver = opened(BEFORE)
    ask(driver)
    driver.restart(second("count: alert, within: 1h, start: empty"))
    assert [ask(driver).reason for _ in range(3)] == [Reason.NONE, Reason.NONE, Reason.RATE_LIMITED]


def test_a_window_that_reaches_further_back_is_known_as_far_as_the_old_one_did() -> None:
    driver = opened()
    begun = driver.now_ms
    ask(driver)
    driver.advance(minutes=80)
    driver.signal("a", "seen", signal_id="s-2")
    driver.advance(minutes=10)
    driver.restart(second("count: alert, within: 2h"))
    assert ask(driver).detail.endswith(f"not before {begun + 140 * 60_000}")


def test_what_was_counted_by_other_rules_does_not_count() -> None:
    driver = opened()
    ask(driver)
    driver.restart(second("count: seen, within: 1h, start: empty"))
    driver.signal("a", "seen", signal_id="s-2")
    assert ask(driver).outcome is Outcome.ACCEPTED, "one fact was seen since"
    driver.signal("a", "seen", signal_id="s-3")
    assert ask(driver).reason is Reason.RATE_LIMITED
    driver.restart(parse_definition(BEFORE.replace("version: 1", "version: 3")))
    driver.restart(parse_definition(ACCOUNT.replace("version: 1", "version: 4")))
    assert "is kept since" in ask(driver).detail, "it was not counted in between"
    assert not verified(recorded_of(driver), 0).findings


def test_a_window_that_comes_back_has_counted_nothing_though_states_hold_it_still() -> None:
    driver = opened(ACCOUNT.replace("alert: {", "alert: {set: {asked: window.alerts_1h}, "))
    ask(driver)
    ask(driver)
    assert (driver.read("a").counts or {})["count alert"], "nothing has changed it since"
    driver.restart(parse_definition(BEFORE.replace("version: 1", "version: 2")))
    driver.signal("b", "opened", signal_id="s-2")
    empty = "count: alert, within: 1h, start: empty"
    driver.restart(
        parse_definition(SECOND.replace("version: 2", "version: 3").replace("count: alert, within: 1h", empty))
    )
    assert [ask(driver).reason for _ in range(3)] == [Reason.NONE, Reason.NONE, Reason.RATE_LIMITED]
    driver.restart()
    assert ask(driver).reason is Reason.RATE_LIMITED
    assert not verified(recorded_of(driver), 0).findings


def test_what_left_a_window_does_not_come_back_when_it_is_widened() -> None:
    driver = opened()
    ask(driver)
    driver.advance(minutes=70)
    driver.signal("b", "opened", signal_id="s-2")
    wide = "count: alert, within: 2h, start: empty"
    driver.restart(second(wide))
    assert [ask(driver).reason for _ in range(3)] == [Reason.NONE, Reason.NONE, Reason.RATE_LIMITED]


def test_after_weeks_the_log_tells_still_since_when_and_what_was_counted() -> None:
    driver = opened(BEFORE)
    ask(driver)
    driver.advance(days=1)
    driver.restart(parse_definition(SECOND))
    for day in range(40):
        ask(driver, "refund", minor=day + 8) if day % 3 == 0 else ask(driver)
        driver.signal("never", "seen", signal_id=f"n-{day}")
        driver.advance(hours=10 + day % 17)
        if day % 7 == 0:
            driver.restart()
    before = driver.task().store.get(layout.WINDOWS)
    recording = recorded_of(driver)
    for topic in (driver.topics.changelog, driver.topics.ledger):
        compact(recording.records[TopicPartition(topic, 0)], driver.now_ms - recording.lag_ms)
    assert not verified(recording, 0).findings
    store = restored(recording, driver)
    assert store.get(layout.WINDOWS) == before
    for entity in ("a", "never"):
        held = driver._form().load(store.get(layout.state_key(entity.encode())) or b"")
        assert held.counts == driver.read(entity).counts


def test_verify_starts_later_where_compaction_took_what_told_since_when() -> None:
    """Without the commits before, nobody knows how far log time was when the windows changed: it goes on when idle."""
    driver = opened()
    ask(driver)
    for version, alerts in ((2, "count: seen, within: 3h"), (3, "count: alert, within: 2h")):
        driver.advance(hours=49)  # what expires is deleted in transactions without inputs: log time goes on
        text = SECOND.replace("version: 2", f"version: {version}").replace("count: alert, within: 1h", alerts)
        driver.restart(parse_definition(text))
        for _ in range(2):
            assert ask(driver).reason is Reason.RATE_LIMITED
        driver.signal("b", "seen", signal_id=f"b-{version}")
    driver.advance(days=6)
    ask(driver)
    recording = recorded_of(driver)
    assert not verified(recording, 0).findings
    for topic in (driver.topics.changelog, driver.topics.ledger):
        compact(recording.records[TopicPartition(topic, 0)], driver.now_ms - recording.lag_ms)
    report = verified(recording, 0)
    assert not report.findings
    assert report.since is not None
    assert report.since.why == "since when windows were kept is compacted away"


def compact(records: list[ConsumerRecord], before_ms: int) -> None:
    """Compact as Kafka does; tombstones go at once."""
    last = {record.key: record.offset for record in records if record.timestamp < before_ms}
    records[:] = [
        one for one in records if one.timestamp >= before_ms or (last[one.key] == one.offset and one.value is not None)
    ]


def restored(recording: Recording, driver: TestDriver) -> MemoryStore:
    """A store that was restored from what a log holds."""
    store, topic_ids = MemoryStore(), driver.entity_type.topic_ids
    form = layout.StateFormat(driver.codec, driver.machine.decimal_fields)
    task_id = TaskId("account", 0)
    restore_at_once(
        Restoration(task_id, driver.topics, topic_ids, 1, driver.codec, form, store, driver.now_ms), recording.log()
    )
    return store


# Bounds ---------------------------------------------------------------------------------------------------------------


def test_a_window_that_is_full_forgets_its_oldest_and_limits_wait_for_that() -> None:
    driver = opened(ACCOUNT.replace("limits: window.alerts_1h < 2", "limits: window.seen_1h < 9999"))
    begun = driver.now_ms
    for number in range(COUNTED_MAX - 1):
        see(driver, number)
    driver.run()
    assert ask(driver).outcome is Outcome.ACCEPTED
    driver.advance(minutes=1)
    see(driver, COUNTED_MAX)
    driver.run()
    assert ask(driver).detail.endswith(f"is full; not before {begun + HOUR_MS}")
    see(driver, COUNTED_MAX + 1)
    assert driver.run()[0].decision.outcome is Outcome.ACCEPTED, "facts are never refused for it"
    entries = (driver.read("a").counts or {})["count seen"][""]
    assert len(entries) == 2 * COUNTED_MAX
    driver.restart()
    driver.advance(minutes=59)
    assert ask(driver).outcome is Outcome.ACCEPTED


def see(driver: TestDriver, number: int) -> None:
    at = driver.now_ms
    message = made_message(
        Kind.SIGNAL, "seen", input_id=f"seen-{number}", entity_id="a", payload={}, event_time=at, issued_at=at
    )
    driver.append(Kind.SIGNAL, b"a", driver.codec.encode_message(message))


def test_a_window_tells_so_many_proposers_apart() -> None:
    driver = opened()
    for number in range(PROPOSERS_MAX):
        assert ask(driver, "refund", minor=1, proposer=f"p-{number}").changed
    assert "is full" in ask(driver, "refund", minor=1, proposer="another").detail
    driver.advance(hours=24)
    assert ask(driver, "refund", minor=1, proposer="another").changed


def test_long_names_that_begin_alike_share_a_window() -> None:
    driver = opened()
    assert ask(driver, "refund", minor=400, proposer="x" * 64 + "a").changed
    assert ask(driver, "refund", minor=400, proposer="x" * 64 + "b").reason is Reason.RATE_LIMITED


# Verified -------------------------------------------------------------------------------------------------------------


def test_verify_finds_what_a_window_has_not_counted() -> None:
    driver = opened()
    for _ in range(3):
        ask(driver)
    recording = recorded_of(driver)
    assert not verified(recording, 0).findings
    place = TopicPartition(driver.topics.ledger, 0)
    whole = recording.records[place]
    for key, found in ((b"counted/a", "counted/a of 1/2 is missing"), (b"windows", "windows of 1/1 are missing")):
        recording.records[place] = [one for one in whole if one.key != key]
        assert found in str(verified(recording, 0).findings[0])
    [windows] = [one for one in whole if one.key == b"windows"]
    entry = driver.codec.decode_ledger(windows.value or b"")
    assert isinstance(entry, Windows)
    late = Windows(tuple(one._replace(complete_since=5) for one in entry.windows), entry.task_epoch, entry.sequence)
    recording.records[place] = [windows._replace(value=driver.codec.encode_ledger(late)), *whole[1:]]
    assert "windows of 1/1: it should say" in str(verified(recording, 0).findings[0])


# Definitions ----------------------------------------------------------------------------------------------------------

WRONG = {
    "count: alert, within: 1h": {
        "count: alarm, within: 1h": "windows.alerts_1h.count: there is no signal, proposal or timer 'alarm'",
        "count: alert, within: 49h": "windows.alerts_1h.within: longer than the horizon",
        "count: alert, sum: refund.minor, within: 1h": "windows.alerts_1h: a window counts one thing",
        "within: 1h": "windows.alerts_1h: a window counts one thing",
        "count: alert": "windows.alerts_1h.within: is missing",
        "count: alert, within: 1h, of: x": "windows.alerts_1h.of: the key 'of' is not known",
        "count: alert, within: 1h, by: key": "windows.alerts_1h.by: input should be 'proposer'",
        "sum: alert.minor, within: 1h": "windows.alerts_1h.sum: the payload of alert has no field 'minor'",
        "sum: refund.mino, within: 1h": "windows.alerts_1h.sum: the payload of refund has no field 'mino'",
        "sum: refund, within: 1h": "windows.alerts_1h.sum: 'refund' is no field of an input",
    },
    "payload: {minor: long}": {
        "payload: {minor: long | null}": "windows.spent_24h.sum: minor is long | null: it cannot be summed",
        "payload: {minor: double}": "windows.spent_24h.sum: minor is double: it cannot be summed",
    },
    "alerts_1h: {count": {
        "in: {count": "windows.in: 'in' is a word of the expression language",
        "Alerts: {count": "windows.Alerts: 'Alerts' cannot be the name of a window",
    },
    "limits: window.alerts_1h < 2": {
        "limits: window.alert_1h < 2": "proposals.alert.limits.0: the name 'window.alert_1h' is not known",
        "limits: state.spent < 2": "proposals.alert.limits.0: a limit reads no window",
        "limits: window.alerts_1h": "proposals.alert.limits.0: this gives INT, not a boolean",
        "limits: 5": "proposals.alert.limits: 5 is no list of expressions",
    },
    "seen: {from: [open, frozen, absent]}": {
        "seen: {from: open, limits: window.seen_1h < 1}": "signals.seen.limits: limits is for proposals only",
    },
    "fields: {spent": {
        "invariants: {few: window.seen_1h < 9}\nfields: {spent": "few: the name 'window.seen_1h' is not known",
        "timers: {seen_1h: {from: open, after: 1s, guards: x}}\nfields: {spent": "the key 'guards' is not known",
    },
}  # fmt: skip


@pytest.mark.parametrize(
    ("old", "new", "message"), [(old, new, message) for old, wrong in WRONG.items() for new, message in wrong.items()]
)
def test_what_is_wrong_with_a_window_is_told_with_its_line(old: str, new: str, message: str) -> None:
    text = ACCOUNT.replace(old, new)
    assert text != ACCOUNT
    found = problems_of(text, "account.yaml") or compile_problems(parse_definition(text, "account.yaml"))
    said = [f"{error.path}: {error.message}" for error in found]
    assert any(message in one for one in said), said
    assert all(error.line and error.fix for error in found)


def test_a_timer_has_neither_payload_nor_proposer() -> None:
    for wrong in ("sum: ticks.minor, within: 1h", "count: ticks, within: 1h, by: proposer"):
        assert len(problems_of(TIMED.replace("count: ticks, within: 1h", wrong))) == 1


def test_a_required_field_is_not_there_where_limits_are_asked() -> None:
    text = ACCOUNT.replace("spent: {type: long, default: 0}", "spent: long").replace("{from: absent, to: open", (
        "{from: absent, to: open, set: {spent: 0}"
    )).replace("window.alerts_1h < 2", "window.alerts_1h < state.spent")  # fmt: skip
    found = compile_problems(parse_definition(text))
    assert [error.message for error in found] == ["state.spent has no value while the entity is absent"]


def test_there_are_at_most_so_many_windows() -> None:
    more = "".join(f"  more_{number}: {{count: seen, within: 1h}}\n" for number in range(14))
    assert [error.message for error in problems_of(ACCOUNT + more)] == ["there are 17 windows; at most 16"]


def test_definitions_without_windows_keep_their_digest_and_others_their_form() -> None:
    assert "windows" not in parse_definition(BEFORE).document
    assert "limits" not in parse_definition(BEFORE).document
    definition = parse_definition(ACCOUNT)
    assert parse_definition(definition.document) == definition


def test_diff_says_what_becomes_of_what_was_counted() -> None:
    def changes(old: str, new: str) -> list[tuple[str, str]]:
        found = differences(parse_definition(old), parse_definition(new))
        assert all(difference.compatible for difference in found)
        return [(one.path, one.change) for one in found if one.path != "version"]

    assert changes(BEFORE, SECOND)[-3:] == [
        ("windows.alerts_1h", "added"), ("windows.spent_24h", "added"), ("windows.seen_1h", "added"),
    ]  # fmt: skip
    assert ("windows.alerts_1h", "removed") in changes(ACCOUNT, BEFORE.replace("version: 1", "version: 2"))
    for old, new, expected in (
        ("count: alert, within: 1h", "count: alert, within: 2h", ("windows.alerts_1h.within", "1h -> 2h")),
        ("count: alert, within: 1h", "count: seen, within: 1h", ("windows.alerts_1h.count", "alert -> seen")),
        ("24h, by: proposer", "24h", ("windows.spent_24h.by", "proposer -> none")),
        ("limits: window.alerts_1h < 2", "limits: window.alerts_1h < 3", (
            "proposals.alert.limits", "[window.alerts_1h < 2] -> [window.alerts_1h < 3]")),
    ):  # fmt: skip
        assert changes(ACCOUNT, SECOND.replace(old, new)) == [expected]
