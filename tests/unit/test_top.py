"""The live view's numbers: scrapes of gates in, a frame out. The gates' texts come from the real metrics."""

from __future__ import annotations

from math import inf

import pytest

from placet.cli.top.frame import Frame, Gate, GateRules, NoteLevel, OutcomeRate, Partition, PartitionPhase
from placet.cli.top.notes import spell_s
from placet.cli.top.samples import by, increase, parse, quantile, total
from placet.cli.top.watch import FORGET_AFTER_S, Watch
from placet.schemas import decision
from placet.schemas.decision import Reason
from placet.schemas.messages import Kind
from placet.streams.topology import TaskId
from tests.unit.top_sample import FLIGHT, NOON_S, USUAL, TestGate, look, sample

ACCEPTED = {(Kind.SIGNAL, decision.Outcome.ACCEPTED, Reason.NONE): 100}
STALE = {(Kind.PROPOSAL, decision.Outcome.REFUSED, Reason.STALE): 10}
BAD_FACT = {(Kind.SIGNAL, decision.Outcome.REFUSED, Reason.GUARD_FAILED): 3}


def gate(frame: Frame, name: str) -> Gate:
    (found,) = [row for row in frame.gates if row.gate == name]
    return found


def partition(frame: Frame, number: int) -> Partition:
    (found,) = [row for row in frame.partitions if row.partition == number]
    return found


def outcome(frame: Frame, reason: str) -> OutcomeRate:
    (found,) = [row for row in frame.outcomes if row.reason == reason]
    return found


def notes(frame: Frame, level: NoteLevel) -> list[str]:
    return [note.text for note in frame.notes if note.level is level]


# -- arithmetic ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["<html><body>hi</body></html>", '{"a": 1}', 'a{b="c} 3', "x{a} 1", "a b c"])
def test_what_is_no_prometheus_text_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError):
        parse(text)


def test_series_are_summed_by_the_labels_that_are_asked_for() -> None:
    numbers = parse('a{x="1",y="p"} 1\na{x="1",y="q"} 2\na{x="2",y="p"} 4\nb 8\n')
    assert by(numbers, "a", "x") == {("1",): 3, ("2",): 4}
    assert by(numbers, "a", "y", "x")["q", "1"] == 2
    assert (total(numbers, "a"), total(numbers, "b"), total(numbers, "c")) == (7, 8, None)


def test_a_counter_that_went_down_grew_from_zero() -> None:
    grown = increase(parse('a{x="1"} 10\na{x="2"} 5\n'), parse('a{x="1"} 4\na{x="2"} 7\na{x="3"} 1\n'))
    assert by(grown, "a", "x") == {("1",): 4, ("2",): 2, ("3",): 1}


@pytest.mark.parametrize(
    ("of", "buckets", "expected"),
    [
        (0.5, {1.0: 0, 2.0: 10, inf: 10}, 1.5),
        (0.99, {1.0: 0, 2.0: 100, inf: 100}, 1.99),
        (0.5, {0.1: 5, 1.0: 5, inf: 10}, 0.1),
        (0.99, {0.1: 5, 1.0: 5, inf: 10}, 1.0),  # beyond the last bound nobody knows how far
        (0.5, {0.1: 0, inf: 0}, None),
        (0.5, {}, None),
    ],
)
def test_percentiles_are_estimated_as_promql_does(
    of: float, buckets: dict[float, float], expected: float | None
) -> None:
    assert quantile(of, buckets) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("seconds", "spelled"),
    [(0.0004, "0 ms"), (0.85, "850 ms"), (1, "1 s"), (2.04, "2 s"), (9.9, "9.9 s"), (59, "59 s"), (119, "119 s"),
     (120, "2 min"), (7_300, "2 h"), (200_000, "2 d")],
)  # fmt: skip
def test_durations_are_spelled_in_one_unit(seconds: float, spelled: str) -> None:
    assert spell_s(seconds) == spelled


# -- rates -----------------------------------------------------------------------------------------------------------


def test_the_first_look_has_counts_and_no_rates() -> None:
    one = TestGate("a").runs(0, 1, 2, 3)
    one.decides(0, ACCEPTED)
    frame = look(Watch(), 0.0, {"a": one})
    assert (frame.window_s, frame.total.decisions, frame.total.decisions_per_s) == (None, 100, None)
    assert (frame.accepted_share, frame.history, frame.total.decision_p99_s) == (None, (), None)
    assert outcome(frame, "NONE").facts_per_s is None


def test_rates_are_what_came_between_two_looks_over_the_time_between_them() -> None:
    watch, one, other = Watch(), TestGate("a").runs(0, 1), TestGate("b").runs(2, 3)
    one.decides(0, ACCEPTED, times=7)
    look(watch, 0.0, {"a": one, "b": other})
    one.decides(0, ACCEPTED)
    one.decides(1, STALE)
    other.decides(2, ACCEPTED, times=3)
    one.cpu_s += 1
    frame = look(watch, 2.0, {"a": one, "b": other})
    assert (frame.window_s, frame.total.decisions_per_s, frame.total.decisions) == (2.0, 205.0, 1_110)
    assert (gate(frame, "a").flow.decisions_per_s, gate(frame, "b").flow.decisions_per_s) == (55.0, 150.0)
    assert [row.decisions_per_s for row in frame.partitions] == [50.0, 5.0, 150.0, 0.0]
    stale = outcome(frame, "STALE")
    assert (stale.outcome, stale.proposals, stale.proposals_per_s, stale.facts_per_s) == ("REFUSED", 10, 5.0, 0.0)
    assert stale.share == pytest.approx(10 / 410)
    assert frame.accepted_share == pytest.approx(400 / 410)
    assert gate(frame, "a").cpu_share == 0.5
    assert frame.history == (205.0,)


def test_latencies_are_of_the_time_between_two_looks() -> None:
    watch, one = Watch(), TestGate("a").runs(0)
    one.decides(0, ACCEPTED, latency_s=20)
    look(watch, 0.0, {"a": one})
    for _ in range(100):
        one.decides(0, ACCEPTED, latency_s=0.2)
    flow = look(watch, 2.0, {"a": one}).total
    assert 0.1 < (flow.decision_p50_s or 0) < (flow.decision_p99_s or 0) <= 0.25
    assert 0.025 < (flow.commit_p50_s or 0) < (flow.commit_p99_s or 0) <= 0.05
    assert look(watch, 4.0, {"a": one}).total.decision_p99_s is None, "nothing was observed"


def test_a_restarted_process_counts_from_zero_and_is_named() -> None:
    watch = Watch()
    before = TestGate("a").runs(0)
    before.decides(0, ACCEPTED, times=10)
    look(watch, 0.0, {"a": before})
    after = TestGate("a", started_s=NOON_S + 1).runs(0)
    after.decides(0, ACCEPTED, times=11)  # more than before: only its start tells
    frame = look(watch, 4.0, {"a": after})
    assert gate(frame, "a").restarted
    assert frame.total.decisions_per_s == 275.0
    assert notes(frame, NoteLevel.ODD) == ["a started 3 s ago"]


def test_counters_that_went_down_tell_of_a_restart_too() -> None:
    watch = Watch()
    before, after = TestGate("a"), TestGate("a")
    before.decides(0, ACCEPTED)
    before.decides(0, ACCEPTED)
    look(watch, 0.0, {"a": before})
    after.decides(0, ACCEPTED)
    frame = look(watch, 1.0, {"a": after})
    assert gate(frame, "a").restarted
    assert frame.total.decisions_per_s == 100.0


def test_outcomes_are_of_all_gates_and_the_most_frequent_come_first() -> None:
    one, other = TestGate("a"), TestGate("b")
    one.decides(0, STALE)
    other.decides(1, STALE, times=2)
    other.decides(1, ACCEPTED)
    frame = look(Watch(), 0.0, {"a": one, "b": other})
    assert [(row.reason, row.facts, row.proposals) for row in frame.outcomes] == [("NONE", 100, 0), ("STALE", 0, 30)]


# -- gates that do not answer ----------------------------------------------------------------------------------------


def test_a_gate_that_stops_answering_is_shown_with_how_long_and_the_others_go_on() -> None:
    watch, one, other = Watch(), TestGate("a").runs(0, 1), TestGate("b").runs(2, 3)
    look(watch, 0.0, {"a": one, "b": other})
    look(watch, 2.0, {"a": one, "b": "connection refused"})
    one.decides(0, ACCEPTED)
    frame = look(watch, 7.0, {"a": one, "b": "connection refused"})
    gone = gate(frame, "b")
    assert (gone.silent_s, gone.error, gone.flow.decisions_per_s) == (7.0, "connection refused", None)
    assert (frame.answering, gate(frame, "a").silent_s, frame.total.decisions_per_s) == (1, None, 20.0)
    assert notes(frame, NoteLevel.BAD)[0] == "b has not answered for 7 s: connection refused"


def test_one_that_never_answered_is_shown_by_its_endpoint() -> None:
    watch = Watch()
    look(watch, 0.0, {"http://x:1/metrics": "timed out"})
    frame = look(watch, 5.0, {"http://x:1/metrics": "timed out"})
    assert [(row.gate, row.endpoint, row.silent_s) for row in frame.gates] == [("", "http://x:1/metrics", 5.0)]
    assert (frame.answering, frame.total.decisions_per_s, frame.partitions) == (0, None, ())


def test_after_a_silence_the_rate_covers_all_of_it() -> None:
    watch, one = Watch(), TestGate("a").runs(0)
    look(watch, 0.0, {"a": one})
    look(watch, 2.0, {"a": "timed out"})
    one.decides(0, ACCEPTED)
    frame = look(watch, 4.0, {"a": one})
    assert (frame.window_s, frame.total.decisions_per_s) == (4.0, 25.0)


def test_a_gate_whose_address_has_gone_is_shown_for_a_while() -> None:
    watch, one, other = Watch(), TestGate("a").runs(0), TestGate("b").runs(1)
    look(watch, 0.0, {"a": one, "b": other})
    frame = look(watch, 10.0, {"a": one})
    assert "no longer among" in gate(frame, "b").error
    assert len(look(watch, FORGET_AFTER_S - 1, {"a": one}).gates) == 2
    assert len(look(watch, FORGET_AFTER_S + 1, {"a": one}).gates) == 1


def test_a_gate_that_answers_at_another_address_has_moved() -> None:
    watch, one, other = Watch(), TestGate("a").runs(0), TestGate("b").runs(1)
    look(watch, 0.0, {"10.0.0.1": one, "10.0.0.2": other})
    frame = look(watch, 2.0, {"10.0.0.1": one, "10.0.0.3": TestGate("b", started_s=NOON_S).runs(1)})
    assert [(row.gate, row.endpoint, row.silent_s) for row in frame.gates] == [
        ("a", "10.0.0.1", None),
        ("b", "10.0.0.3", None),
    ]


def test_an_address_that_never_answered_and_has_gone_is_forgotten_at_once() -> None:
    watch, one = Watch(), TestGate("a").runs(0)
    look(watch, 0.0, {"a": one, "b": "timed out"})
    assert [row.gate for row in look(watch, 1.0, {"a": one}).gates] == ["a"]


def test_a_process_that_answers_at_two_addresses_counts_once() -> None:
    one = TestGate("a").runs(0)
    one.decides(0, ACCEPTED)
    frame = look(Watch(), 0.0, {"http://a/metrics": one, "http://10.0.0.1/metrics": one})
    assert (len(frame.gates), frame.total.decisions) == (1, 100)


def test_two_processes_of_one_name_are_called_out() -> None:
    frame = look(Watch(), 0.0, {"a": TestGate("x", started_s=1), "b": TestGate("x", started_s=2)})
    assert len(frame.gates) == 2
    assert "2 gates are called x" in " ".join(notes(frame, NoteLevel.BAD))


# -- partitions ------------------------------------------------------------------------------------------------------


def test_a_partition_that_no_gate_has_is_named() -> None:
    frame = look(Watch(), 0.0, {"a": TestGate("a").runs(0, 2, of=4)})
    assert [(row.partition, row.phase, row.gates) for row in frame.partitions] == [
        (0, PartitionPhase.RUNNING, ("a",)),
        (1, PartitionPhase.NOBODY, ()),
        (2, PartitionPhase.RUNNING, ("a",)),
        (3, PartitionPhase.NOBODY, ()),
    ]
    assert notes(frame, NoteLevel.BAD) == ["no gate that answers has 2 of 4 partitions of flight: 1, 3"]


def test_the_lag_of_a_partition_is_that_of_both_its_inputs() -> None:
    one = TestGate("a").runs(0, 1)
    one.lags(signals_0=3, proposals_0=4, signals_1=0, proposals_1=0)
    frame = look(Watch(), 0.0, {"a": one})
    assert [partition(frame, n).lag_records for n in (0, 1)] == [7, 0]
    assert (gate(frame, "a").flow.lag_records, frame.total.lag_records) == (7, 7)


def test_a_restore_tells_how_far_it_is_and_how_long_it_takes() -> None:
    watch, one = Watch(), TestGate("a").runs(0, flight_1="restoring", flight_2="restoring")
    one.told.restoring({"flight-1": (100, 900), "flight-2": (0, None)})
    look(watch, 0.0, {"a": one})
    one.told.restoring({"flight-1": (300, 700), "flight-2": (0, None)})
    frame = look(watch, 2.0, {"a": one})
    restore, waiting = partition(frame, 1).restore, partition(frame, 2).restore
    assert restore is not None
    assert (restore.read_records, restore.ahead_records, restore.share, restore.left_s) == (300, 700, 0.3, 7.0)
    assert waiting is not None
    assert (waiting.ahead_records, waiting.share, waiting.left_s) == (None, None, None)
    assert (gate(frame, "a").running, gate(frame, "a").restoring) == (1, 2)


def test_a_stopped_task_is_named_with_its_gate() -> None:
    frame = look(Watch(), 0.0, {"a": TestGate("a").runs(0, of=2, flight_1="stopped")})
    assert partition(frame, 1).phase is PartitionPhase.STOPPED
    assert notes(frame, NoteLevel.BAD) == ["flight-1 is stopped on a: see `task stopped` in its log"]


def test_a_partition_that_moves_is_with_both_for_a_moment_and_counts_once() -> None:
    watch, one, other = Watch(), TestGate("a").runs(0, of=1), TestGate("b").runs(of=1)
    look(watch, 0.0, {"a": one, "b": other})
    one.decides(0, ACCEPTED)
    other.runs(0, of=1)
    other.decides(0, STALE)
    frame = look(watch, 1.0, {"a": one, "b": other})
    assert [(row.gates, row.decisions_per_s) for row in frame.partitions] == [(("a", "b"), 110.0)]


def test_two_apps_do_not_mix() -> None:
    one, other = TestGate("a", app="prod").runs(0, of=1), TestGate("a", app="test").runs(0, of=1)
    frame = look(Watch(), 0.0, {"x": one, "y": other})
    assert frame.apps == ("prod", "test")
    assert [(row.app, row.gates) for row in frame.partitions] == [("prod", ("a",)), ("test", ("a",))]
    assert not notes(frame, NoteLevel.BAD), "one name in two apps is no conflict"


def test_decisions_on_timers_are_counted_apart() -> None:
    watch, one = Watch(), TestGate("a").runs(0, of=1)
    look(watch, 0.0, {"a": one})
    one.decides(0, {**ACCEPTED, (Kind.TIMER, decision.Outcome.ACCEPTED, Reason.NONE): 20})
    frame = look(watch, 2.0, {"a": one})
    row = outcome(frame, "NONE")
    assert (row.facts, row.proposals, row.timers, row.timers_per_s) == (100, 0, 20, 10.0)
    assert frame.total.decisions == 120
    assert [part.decisions_per_s for part in frame.partitions] == [50.0], "of records"


def test_timers_that_do_not_fire_are_said() -> None:
    watch, one = Watch(), TestGate("a").runs(0, 1, of=2)
    one.told.next_due({TaskId("flight", 0): round(NOON_S * 1000) - 1_000, TaskId("flight", 1): round(NOON_S * 1000)})
    assert notes(look(watch, 59.0, {"a": one}), NoteLevel.ODD) == []
    late = look(watch, 300.0, {"a": one})
    assert notes(late, NoteLevel.ODD) == [
        "timers have been due for up to 5 min in flight-0, flight-1: inputs wait there, or a broker does not answer"
    ]
    assert [part.timer_overdue_s for part in late.partitions] == [301.0, 300.0]
    one.told.next_due({})
    assert look(watch, 302.0, {"a": one}).notes == ()


# -- what to look at -------------------------------------------------------------------------------------------------


def test_refused_facts_and_lost_transactions_are_said_while_they_happen() -> None:
    watch, one = Watch(), TestGate("a").runs(0, of=1)
    look(watch, 0.0, {"a": one})
    one.decides(0, BAD_FACT)
    one.told.transaction("aborted", 0)
    frame = look(watch, 2.0, {"a": one})
    assert (frame.refused_facts, gate(frame, "a").aborted) == (3, 1)
    assert notes(frame, NoteLevel.ODD) == [
        "a lost 1 transaction and decides again: its log says why",
        "3 facts refused in the last 2 s: placet decisions tail --refused",
    ]
    later = look(watch, 4.0, {"a": one})
    assert (later.refused_facts, later.notes) == (3, ())


def test_the_versions_by_which_gates_decide_are_shown_and_named_where_they_differ() -> None:
    watch, old = Watch(), TestGate("gate-0").runs(0, of=2)
    new = TestGate("gate-1", version=2).runs(1, of=2)
    frame = look(watch, 0.0, {"a": old, "b": new})
    assert [gate(frame, name).rules for name in ("gate-0", "gate-1")] == [
        {"flight": GateRules(number, FLIGHT.model_copy(update={"version": number}).digest.hex())} for number in (1, 2)
    ]
    [note] = notes(frame, NoteLevel.ODD)
    assert note.startswith("flight is decided by version 1 on gate-0, version 2 on gate-1: the rules have just changed")
    assert notes(look(Watch(), 0.0, {"a": new}), NoteLevel.ODD) == []
    apart = look(Watch(), 0.0, {"a": old, "b": TestGate("gate-1", app="other", version=2).runs(0, of=1)})
    assert notes(apart, NoteLevel.ODD) == [], "each app has rules of its own"


def test_a_gate_that_can_not_run_what_is_in_force_is_named_and_its_older_rules_are_not_shown() -> None:
    newer, older = TestGate("gate-0", version=2).runs(0, 1, 2, 3), TestGate("gate-1", version=1).runs()
    older.told.can_not_run({"flight": "there is no such function"}, outside=True)
    frame = look(Watch(), 0.0, {"a": newer, "b": older})
    [note] = frame.notes
    assert note.level is NoteLevel.BAD
    assert note.text.startswith("gate-1 can't run the definition in force of flight, and has nothing else to do: see")
    assert [(gate.unrunnable, [*gate.rules]) for gate in frame.gates] == [((), ["flight"]), (("flight",), [])]


def test_a_task_that_waits_for_a_schema_is_named_with_its_id_and_for_how_long() -> None:
    one = TestGate("gate-0").runs(0, of=2, flight_1="waiting")
    one.told.schema_waits({"flight-1": ("id 17", round(NOON_S - 720) * 1_000, "http://registry: 500")})
    frame = look(Watch(), 0.0, {"a": one})
    assert notes(frame, NoteLevel.BAD) == [
        "flight-1 waits on gate-0 for schema id 17, for 12 min: see `inputs wait for a schema` in its log"
    ]
    assert [(row.schema, row.schema_wait_s) for row in frame.partitions] == [("", 0.0), ("id 17", 720.0)]


def test_rules_of_one_version_that_are_not_the_same_are_told_apart() -> None:
    watch, one, other = Watch(), TestGate("gate-0").runs(0, of=2), TestGate("gate-1").runs(1, of=2)
    other.told.rules("flight", 1, b"\xab" * 16)
    mine, theirs = FLIGHT.digest.hex()[:8], "abababab"
    frame = look(watch, 0.0, {"a": one, "b": other})
    first, second = sorted([(mine, "gate-0"), (theirs, "gate-1")])
    said = ", ".join(f"version 1 ({digest}) on {name}" for digest, name in (first, second))
    assert notes(frame, NoteLevel.ODD)[0].startswith(f"flight is decided by {said}: ")
    other.told.rules("flight", 1, FLIGHT.digest)
    assert notes(look(watch, 2.0, {"a": one, "b": other}), NoteLevel.ODD) == []


def test_all_is_well_says_nothing() -> None:
    watch, one = Watch(), TestGate("a").runs(0, 1, 2, 3)
    look(watch, 0.0, {"a": one})
    one.decides(0, USUAL)
    assert look(watch, 2.0, {"a": one}).notes == ()


def test_the_sample_of_the_docs_is_the_same_each_time() -> None:
    assert sample() == sample()
