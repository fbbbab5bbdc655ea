"""The demo's pure parts: facts, minds, the tally, the joined history."""

from __future__ import annotations

from importlib import import_module
from random import Random
from typing import Any

import pytest

from placet.schemas.decision import Coordinates, Decision, Outcome, Reason
from placet.schemas.messages import Kind, Message
from placet.schemas.state import Change, EntityState

flights, minds, tally_of, history_of = (
    import_module(name) for name in ("demo.flights", "demo.minds", "demo.tally", "demo.history")
)
FLIGHT = "2013-02-08.UA1.EWR"


def row(**given: Any) -> dict[str, Any]:
    """A flight's row."""
    return {
        "status": "scheduled", "origin": "EWR", "dest": "IAH", "carrier": "UA", "flight": 1, "distance": 1400,
        "sched_dep": 1_360_000_000_000, "expected_delay": 0, "dep_delay": None, "arr_delay": None, "rebooked": 0,
        "notified": False, "hold_minutes": 0, **given,
    }  # fmt: skip


# -- facts -------------------------------------------------------------------------------------------------------------


def test_facts_come_in_the_order_in_which_they_happened() -> None:
    found = list(flights.facts(600, "02-08"))
    assert [fact.at for fact in found] == sorted(fact.at for fact in found)
    assert {fact.flight[:10] for fact in found} == {"2013-02-08"}
    assert sum(fact.name == "flight_scheduled" for fact in found) == 600


def test_each_flight_has_one_beginning_and_one_end() -> None:
    ends = {"flight_arrived", "flight_diverted", "flight_cancelled"}
    for fact in (found := list(flights.facts(300, "02-08"))):
        of_it = [other.name for other in found if other.flight == fact.flight]
        assert of_it[0] == "flight_scheduled"
        assert len(ends & set(of_it)) == 1
        assert of_it[-1] in ends


def test_the_year_goes_on_in_february() -> None:
    """The file sorts October before February."""
    found = [fact.flight[:7] for fact in flights.facts(1_000, "01-31") if fact.name == "flight_scheduled"]
    assert (found[0], found[-1], set(found)) == ("2013-01", "2013-02", {"2013-01", "2013-02"})


# -- minds -------------------------------------------------------------------------------------------------------------


def test_the_desk_tells_who_is_late_and_moves_who_is_very_late() -> None:
    desk = minds.Desk()
    desk.ideas("flight_scheduled", "2013-02-08.UA2.EWR", row(sched_dep=1_360_000_100_000))
    names = [idea.name for idea in desk.ideas("delay_estimated", FLIGHT, row(expected_delay=20))]
    assert names == ["notify_late"]
    ideas = desk.ideas("delay_estimated", FLIGHT, row(expected_delay=90))
    assert [(idea.name, idea.entity) for idea in ideas] == [
        ("rebook", FLIGHT), ("hold_connection", "2013-02-08.UA2.EWR"), ("notify_late", FLIGHT),
    ]  # fmt: skip


@pytest.mark.parametrize("state", [{"notified": True}, {"status": "arrived", "dep_delay": 40}])
def test_nobody_is_told_who_knows_or_has_arrived(state: dict[str, Any]) -> None:
    assert not minds.Desk().ideas("delay_estimated", FLIGHT, row(expected_delay=40, **state))


def test_nobody_is_moved_to_a_flight_that_is_known_to_be_cancelled() -> None:
    desk, other = minds.Desk(), "2013-02-08.UA2.EWR"
    desk.ideas("flight_scheduled", other, row(sched_dep=1_360_000_100_000))
    desk.ideas("flight_cancelled", other, row(sched_dep=1_360_000_100_000, status="cancelled"))
    assert not desk.ideas("flight_cancelled", FLIGHT, row(status="cancelled"))


def test_the_learner_learns() -> None:
    """Flights arrive ten minutes earlier than they departed late: a naive guess is ten minutes off, for ever."""
    learner, random = minds.Learner(), Random(7)
    for number in range(1_500):
        late = random.randrange(0, 120)
        learner.ideas("flight_arrived", f"f-{number}", row(status="arrived", dep_delay=late, arr_delay=late - 10))
    assert learner.learned == 1_500
    assert learner.naive_min == pytest.approx(10)
    assert learner.error_min < 2
    assert learner.predict(row(status="departed", dep_delay=60)) == pytest.approx(50, abs=4)


def test_an_arrival_that_comes_again_is_learned_once() -> None:
    learner = minds.Learner()
    for _ in range(2):
        learner.ideas("flight_arrived", FLIGHT, row(status="arrived", dep_delay=5, arr_delay=1))
    assert learner.learned == 1


# -- the tally ---------------------------------------------------------------------------------------------------------


def decided(partition: int, decided_at: int, reason: Reason = Reason.NONE) -> tuple[Decision, Coordinates]:
    """A decision on a proposal, and where it was taken; its input was on the log 40 ms before."""
    outcome = Outcome.REFUSED if reason else Outcome.ACCEPTED
    decision = Decision(
        outcome, reason, Kind.PROPOSAL, "rebook", "p", FLIGHT, "", b"", False, 1, 1, 1, "scheduled", "scheduled"
    )
    return decision, Coordinates("t", partition, 0, decided_at - 40, decided_at, 1, 1, 0, b"", 0)


def test_the_tally_counts_by_second_and_reason() -> None:
    tally = tally_of.Tally(10_000)
    tally.take(10_500, [decided(0, 10_450), decided(0, 10_450, Reason.STALE)])
    tally.take(12_100, [decided(1, 12_050, Reason.STALE)])
    assert [row["proposals"] for row in tally.by_second()] == [{"ACCEPTED": 1, "STALE": 1}, {}, {"STALE": 1}]
    assert [(row["reason"], row["proposals"]) for row in tally.outcomes()] == [("STALE", 2), ("", 1)]
    assert tally.latency()["p50"] == 90


def test_a_takeover_is_over_with_the_last_partition() -> None:
    tally = tally_of.Tally(0)
    tally.kill = tally_of.Kill("gate-1", 20_000, (2, 3))
    tally.take(20_010, [decided(2, 19_990)])  # decided before the kill, seen after it
    tally.take(20_020, [decided(0, 20_015)])  # of a gate that lives
    assert tally.takeover_ms() == {}
    tally.take(26_500, [decided(2, 26_450)])
    assert not tally.is_taken_over()
    tally.take(27_000, [decided(3, 26_990), decided(2, 26_990)])
    assert tally.is_taken_over()
    assert tally.takeover_ms() == {2: 6_500, 3: 7_000}


# -- history -----------------------------------------------------------------------------------------------------------


def test_history_joins_what_was_read_with_what_was_proposed_and_answered() -> None:
    def message(kind: Kind, name: str, at: int, **given: Any) -> Message:
        return Message(kind, name, f"{name}-{at}", FLIGHT, {}, at, at, proposer="desk", **given)

    records = [
        history_of.Record(30, ("p", 0), message(Kind.PROPOSAL, "rebook", 28, base_version=1, caused_by="s"), 25),
        history_of.Record(10, ("s", 0), message(Kind.SIGNAL, "flight_scheduled", 10)),
        history_of.Record(40, ("p", 1), message(Kind.PROPOSAL, "rebook", 39, base_version=1, caused_by="s"), 25),
    ]
    states = [EntityState(version, 1, "scheduled", {"rebooked": version - 1}) for version in (1, 2)]
    changes = [
        Change(FLIGHT, state, Kind.SIGNAL, "", "", "", b"", 0, 0, 0, "s", 0, 1, 1, b"") for state in states
    ]  # fmt: skip

    def answer(place: tuple[str, int], before: int, after: int, reason: Reason = Reason.NONE) -> Any:
        outcome = Outcome.DUPLICATE if reason else Outcome.ACCEPTED
        return history_of.Decided(place, 50, Decision(
            outcome, reason, Kind.SIGNAL, "", "", FLIGHT, "", b"", True, before, after, 1, "", "",
        ))  # fmt: skip

    found = history_of.join(
        records,
        [answer(("s", 0), 0, 1), answer(("p", 0), 1, 2), answer(("p", 1), 2, 2, Reason.REPEATED)],
        changes,
        {"status": "absent"},
    )
    assert [each.name for each in found.inputs] == ["flight_scheduled", "rebook", "rebook"]
    assert found.inputs[1].read == ({"status": "scheduled", "rebooked": 0}, 1, 25)
    assert [each.sent_again for each in found.inputs] == [False, False, True]
    assert found.answers == {0: "ACCEPTED", 1: "ACCEPTED", 2: "REPEATED"}
    assert [(each.before["status"], each.after["rebooked"]) for each in found.accepted] == [
        ("absent", 0), ("scheduled", 1),
    ]  # fmt: skip
