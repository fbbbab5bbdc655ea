"""The state after an accepted input: what changes, what is counted, what is kept."""

from __future__ import annotations

from dataclasses import replace

import pytest

from placet.schemas.decision import Decision, Outcome, Reason
from placet.schemas.memory import Applied
from placet.schemas.state import EntityState
from tests.unit.bench import NOW, Bench, proposal, signal

LAMP = """
entity: lamp
version: 1
statuses: [off, lit]
fields:
  left: {type: int, default: 1}
  right: {type: int, default: 2}
  label: string | null
signals:
  installed: {payload: {label: string | null}, from: absent, to: off, copy: label}
  labelled: {payload: {label: string | null}, from: any, copy: label}
  switched_on: {from: [off, lit], to: lit}
  broken: {dedup: once, from: any, to: absent}
  missed: {dedup: newest, from: [absent, off]}
proposals:
  swap: {fence: none, from: any, set: {left: state.right, right: state.left}}
  move:
    payload: {by: int, label: string}
    fence: none
    transitions:
      - {from: any, guard: payload.by > 10, to: lit, set: {left: payload.by}}
      - {from: any, guard: payload.by > 0, copy: label, set: {left: state.left + payload.by}}
      - {from: lit, set: {right: payload.by}}
invariants:
  left_is_small: "state.left < 100 && (status == 'lit' || state.left < 50)"
"""


@pytest.fixture
def bench() -> Bench:
    bench = Bench(LAMP)
    accept(bench.judge(signal("installed", {"label": "hall"}, input_id="s-0")))
    return bench


def accept(decision: Decision) -> Decision:
    assert decision.outcome is Outcome.ACCEPTED, decision.detail
    return decision


def lamp(bench: Bench) -> EntityState:
    return bench.state("order-1")


def test_creation_counts_as_the_first_version(bench: Bench) -> None:
    state = lamp(bench)
    assert (state.status, state.version, state.incarnation) == ("off", 1, NOW)
    assert state.fields == {"left": 1, "right": 2, "label": "hall"}
    assert state.field_versions == {"status": 1, "label": 1}
    assert state.applied["installed"].input_id == "s-0"


def test_all_right_hand_sides_see_the_old_state(bench: Bench) -> None:
    accept(bench.judge(proposal("swap", dedup_key="k")))
    assert (lamp(bench).fields["left"], lamp(bench).fields["right"]) == (2, 1)


def test_each_field_keeps_the_version_that_changed_it_last(bench: Bench) -> None:
    accept(bench.judge(proposal("move", {"by": 3, "label": "hall"}, dedup_key="k-1")))
    accept(bench.judge(signal("switched_on", input_id="s-1")))
    assert lamp(bench).field_versions == {"status": 3, "label": 1, "left": 2}


def test_the_first_transition_whose_guard_holds_wins(bench: Bench) -> None:
    accept(bench.judge(proposal("move", {"by": 20, "label": "x"}, dedup_key="k-1")))
    assert (lamp(bench).status, lamp(bench).fields["left"], lamp(bench).fields["label"]) == ("lit", 20, "hall")
    accept(bench.judge(proposal("move", {"by": 5, "label": "y"}, dedup_key="k-2")))
    assert (lamp(bench).fields["left"], lamp(bench).fields["label"]) == (25, "y")
    accept(bench.judge(proposal("move", {"by": -5, "label": "z"}, dedup_key="k-3")))
    assert (lamp(bench).fields["right"], lamp(bench).fields["label"]) == (-5, "y")


def test_an_input_that_changes_nothing_bumps_nothing_but_is_remembered_by_name(bench: Bench) -> None:
    before = lamp(bench)
    decision = accept(
        bench.judge(signal("labelled", {"label": "hall"}, input_id="s-1", event_time=NOW + 3), at=NOW + 4)
    )
    assert (decision.changed, decision.version_after) == (False, 1)
    after = lamp(bench)
    assert after.applied["labelled"] == Applied(NOW + 3, "s-1", decision.payload_digest, 1, NOW + 4)
    assert replace(after, applied=before.applied) == before


def test_an_older_fact_that_is_applied_all_the_same_does_not_become_the_newest(bench: Bench) -> None:
    accept(bench.judge(signal("labelled", {"label": "new"}, input_id="s-1")))
    accept(bench.judge(signal("labelled", {"label": "old"}, input_id="s-2", event_time=NOW - 5)))
    assert lamp(bench).fields["label"] == "old"
    assert lamp(bench).applied["labelled"].input_id == "s-1"


def test_deletion_keeps_the_counter_and_nothing_else(bench: Bench) -> None:
    accept(bench.judge(proposal("move", {"by": 3, "label": "x"}, dedup_key="k-1")))
    decision = accept(bench.judge(signal("broken", input_id="s-9"), at=NOW + 7))
    assert (decision.changed, decision.status_after, decision.version_after) == (True, "absent", 3)
    state = lamp(bench)
    assert (state.version, state.incarnation, state.deleted_at) == (3, NOW, NOW + 7)
    assert state.fields == {"left": 1, "right": 2, "label": None}
    assert state.field_versions == {"status": 3, "label": 3, "left": 3}


def test_an_entity_created_again_continues_its_counter(bench: Bench) -> None:
    accept(bench.judge(signal("broken", input_id="s-1"), at=NOW + 7))
    decision = accept(bench.judge(signal("installed", {"label": None}, input_id="s-2"), at=NOW + 8))
    assert (decision.version_before, decision.version_after, decision.incarnation) == (2, 3, NOW + 8)
    assert lamp(bench).deleted_at == 0


def test_lives_that_begin_in_the_same_millisecond_are_told_apart(bench: Bench) -> None:
    accept(bench.judge(signal("broken", input_id="s-1")))
    decision = accept(bench.judge(signal("installed", {"label": None}, input_id="s-2")))
    assert decision.incarnation == NOW + 1


def test_what_happens_once_is_remembered_beyond_the_deletion(bench: Bench) -> None:
    accept(bench.judge(signal("broken", input_id="s-1")))
    accept(bench.judge(signal("installed", {"label": None}, input_id="s-2")))
    assert bench.judge(signal("broken", input_id="s-3")).reason is Reason.REPEATED


def test_an_absent_entity_can_remember_without_being_created(bench: Bench) -> None:
    missed = signal("missed", entity_id="order-2", event_time=NOW - 1)
    decision = accept(bench.judge(missed))
    assert (decision.changed, decision.version_after, decision.incarnation) == (False, 0, 0)
    assert bench.state("order-2").status == "absent"
    assert bench.judge(missed).reason is Reason.REPEATED


def test_invariants_see_the_new_state(bench: Bench) -> None:
    refused = bench.judge(proposal("move", {"by": 100, "label": "x"}, dedup_key="k-1"))
    assert refused.reason is Reason.INVARIANT_VIOLATED
    accept(bench.judge(proposal("move", {"by": 60, "label": "x"}, dedup_key="k-2")))  # lit by the same step
    assert lamp(bench).fields["left"] == 60


def test_a_state_of_an_earlier_definition_is_read_field_by_field(bench: Bench) -> None:
    """As many fields as now, but others: one came and one went."""
    state = lamp(bench)
    earlier = {"left": 7, "label": "hall", "gone": True}
    bench.states["order-1"] = replace(state, fields=earlier)
    accept(bench.judge(proposal("swap", dedup_key="k")))
    assert lamp(bench).fields == {"left": 2, "right": 7, "label": "hall"}
    assert lamp(bench).version == 2
