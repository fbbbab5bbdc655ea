"""The machine: the table that decides, and what is known about each input."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from placet.definitions import load_definition, parse_definition
from placet.processors.dedup import CheckedInput, identified
from placet.processors.ladder import Times, decide
from placet.processors.machine import Dedup, Failed, Fence, Machine, Scope, compile_machine, compile_problems
from placet.processors.staleness import made_stale_by
from placet.schemas.decision import Decision, Outcome, Reason
from placet.schemas.definition.field_types import accepts, expected
from placet.schemas.messages import Kind, Message, Priority
from placet.schemas.state import UNSEEN, EntityState

EXAMPLES = Path(__file__).parents[2] / "placet" / "schemas" / "examples"
S, P = Kind.SIGNAL, Kind.PROPOSAL
START_MS = 1_357_034_400_000


def machine_of(text: str) -> Machine:
    return compile_machine(parse_definition(text))


def example(name: str) -> Machine:
    return compile_machine(load_definition(EXAMPLES / f"{name}.yaml"))


class World:
    """One entity and the real ladder; time passes by a second with each input."""

    def __init__(self, machine: Machine) -> None:
        self.machine, self.state, self.now = machine, UNSEEN, START_MS

    def send(
        self,
        kind: Kind,
        name: str,
        *,
        based_on: EntityState | None = None,
        happened_at: int | None = None,
        **payload: Any,
    ) -> Decision:
        self.now += 1000
        base = based_on or self.state
        message = Message(
            kind=kind,
            name=name,
            input_id=f"{name}-{self.now}",
            entity_id="e1",
            payload=payload,
            event_time=self.now if happened_at is None else happened_at,
            issued_at=self.now,
            dedup_key=f"{name}-{self.now}",
            base_version=base.version,
            base_incarnation=base.incarnation,
            proposer="bot-7",
            read_at=self.now if kind is P else None,
        )
        rule = self.machine.rules[kind, name]
        assert rule.check_payload(payload) == ""
        checked = identified(rule, message)
        assert isinstance(checked, CheckedInput)
        decision, self.state = decide(self.machine, self.state, checked, None, Times(self.now, self.now))
        return decision

    def signal(self, name: str, **payload: Any) -> Decision:
        return self.send(S, name, **payload)

    def propose(self, name: str, **payload: Any) -> Decision:
        return self.send(P, name, **payload)


# --- the examples do what they say -----------------------------------------------------------------------------------


def scheduled_flight() -> World:
    world = World(example("flight"))
    decision = world.signal(
        "flight_scheduled",
        carrier="UA",
        flight=1545,
        tail=None,
        origin="EWR",
        dest="IAH",
        sched_dep=START_MS + 3_600_000,
        sched_arr=START_MS + 14_400_000,
    )
    assert decision.outcome is Outcome.ACCEPTED
    return world


def test_a_flight_is_held_notified_and_departs() -> None:
    world = scheduled_flight()
    assert world.propose("hold_connection", minutes=20, connecting_from="DL461").outcome is Outcome.ACCEPTED
    assert world.propose("hold_connection", minutes=20, connecting_from="DL462").reason is Reason.GUARD_FAILED
    assert world.propose("notify_late", text="late").reason is Reason.GUARD_FAILED
    world.signal("delay_estimated", minutes=45)
    assert world.propose("notify_late", text="45 minutes late").outcome is Outcome.ACCEPTED
    assert world.signal("flight_departed", dep_delay=50).status_after == "departed"
    assert world.propose("hold_connection", minutes=5, connecting_from="DL463").reason is Reason.ILLEGAL_TRANSITION
    assert world.signal("flight_arrived", arr_delay=None).status_after == "arrived"
    assert (world.state.fields["hold_minutes"], world.state.fields["notified"]) == (20, True)
    assert (world.state.fields["dep_delay"], world.state.fields["arr_delay"]) == (50, None)


def test_a_rebooking_survives_a_hold_but_not_a_new_estimate() -> None:
    world = scheduled_flight()
    world.signal("delay_estimated", minutes=90)
    read = world.state
    world.propose("hold_connection", minutes=5, connecting_from="DL461")
    assert world.send(P, "rebook", based_on=read, passengers=3, to_flight="UA9").outcome is Outcome.ACCEPTED
    world.signal("delay_estimated", minutes=60)
    stale = world.send(P, "rebook", based_on=read, passengers=3, to_flight="UA9")
    assert stale.reason is Reason.STALE
    assert stale.conflicts[0].fields == ("expected_delay",)


def test_calm_readings_change_nothing_and_starve_no_proposal() -> None:
    world = World(example("wearable"))
    world.signal("device_paired", resting_bpm=60)
    version = world.state.version
    for bpm in (62, 71, 99, 80):
        decision = world.signal("heart_rate", bpm=bpm)
        assert (decision.outcome, decision.changed) == (Outcome.ACCEPTED, False)
    assert world.state.version == version

    assert world.signal("heart_rate", bpm=150).status_after == "alert"
    read = world.state
    for bpm in (151, 149, 60):
        assert world.signal("heart_rate", bpm=bpm).changed is False
    accepted = world.send(P, "escalate", based_on=read, episode=1, responder="doctor", summary="150 bpm at rest")
    assert accepted.outcome is Outcome.ACCEPTED
    assert world.state.status == "escalated"
    assert world.state.fields["responder"] == "doctor"


def test_readings_of_a_device_that_is_not_paired_are_no_alarm() -> None:
    world = World(example("wearable"))
    assert world.signal("heart_rate", bpm=70).reason is Reason.IGNORED
    world.signal("device_paired", resting_bpm=60)
    assert world.signal("heart_rate", bpm=70).outcome is Outcome.ACCEPTED
    world.signal("device_unpaired")
    assert world.signal("heart_rate", bpm=70).reason is Reason.IGNORED
    assert world.signal("all_clear", by="nurse").reason is Reason.ILLEGAL_TRANSITION, "it does not say so"


def test_an_episode_counts_once_and_a_new_one_makes_an_escalation_stale() -> None:
    world = World(example("wearable"))
    world.signal("device_paired", resting_bpm=60)
    for bpm, status in ((105, "elevated"), (95, "elevated"), (145, "alert")):
        assert world.signal("heart_rate", bpm=bpm).status_after == status
    assert world.state.fields["episode"] == 1
    read = world.state
    world.signal("all_clear", by="nurse")
    world.signal("heart_rate", bpm=145)
    assert world.state.fields["episode"] == 2
    assert world.send(P, "escalate", based_on=read, episode=1, responder="doctor", summary="").reason is Reason.STALE


def test_a_visit_that_is_told_late_ends_no_alert_that_began_since() -> None:
    world = World(example("wearable"))
    world.signal("device_paired", resting_bpm=60)
    world.signal("heart_rate", bpm=150)
    first = world.now
    assert world.signal("all_clear", by="nurse").status_after == "normal"
    assert world.signal("heart_rate", bpm=150).status_after == "alert"
    late = world.send(S, "all_clear", happened_at=first, by="neighbour")
    assert (late.outcome, late.status_after) == (Outcome.ACCEPTED, "alert")
    assert (world.state.fields["visits_told_late"], world.state.fields["episode"]) == (1, 2)


def requested_refund() -> World:
    world = World(example("refund"))
    world.signal(
        "refund_requested", order_id="o1", currency="EUR", paid_minor=5000, requested_minor=2500, reason="broken"
    )
    return world


def test_a_refund_is_approved_and_paid_once() -> None:
    world = requested_refund()
    assert world.propose("pay", payment_ref="p1").reason is Reason.ILLEGAL_TRANSITION
    assert world.propose("approve", amount_minor=2501).reason is Reason.GUARD_FAILED
    assert world.propose("approve", amount_minor=2500).outcome is Outcome.ACCEPTED
    assert world.state.fields["approved_by"] == "bot-7"
    assert world.propose("pay", payment_ref="p1").status_after == "paid"
    assert world.propose("pay", payment_ref="p1").outcome is Outcome.DUPLICATE
    assert world.propose("pay", payment_ref="p2").reason is Reason.DEDUP_KEY_REUSED
    assert world.signal("order_corrected", paid_minor=1).reason is Reason.ILLEGAL_TRANSITION


def test_an_invariant_protects_the_money() -> None:
    world = requested_refund()
    world.signal("order_corrected", paid_minor=1000)
    refused = world.propose("approve", amount_minor=2000)

    assert refused.reason is Reason.INVARIANT_VIOLATED
    assert "never_more_than_was_paid" in refused.detail
    assert world.state.fields["refunded_minor"] == 0


def test_deletion_puts_fields_back_and_creation_can_follow() -> None:
    world = requested_refund()
    version = world.state.version
    assert world.signal("refund_withdrawn").status_after == "absent"
    assert world.state.fields == world.machine.initial_fields
    assert world.state.version == version + 1


# --- the table -------------------------------------------------------------------------------------------------------

LAMP = """
entity: lamp
version: 3
horizon: 90m
statuses: [dark, lit, broken]
final: [broken]
fields:
  level: {type: int, default: 5}
  note: string | null
  price: {type: decimal | null, precision: 9, scale: 2}
signals:
  made: {from: absent, to: dark, dedup: once}
  turned:
    payload: {to: int, why: {type: string, default: x}}
    late: refuse
    transitions:
      - {from: [dark, lit], guard: payload.to > 10, to: lit, set: {level: payload.to, note: "'bright'"}}
      - {from: any, set: {level: state.level + payload.to}}
  tick: {payload: {at: long}, dedup: newest, from: any}
  broke: {from: any, to: broken, dedup: [code], payload: {code: string}}
proposals:
  swap:
    fence: [level]
    valid_for: 500ms
    priority: critical
    payload: {a: int}
    from: lit
    set: {level: payload.a, note: "state.level == 5 ? 'five' : 'other'"}
  free: {fence: none, dedup: once, from: lit, to: dark}
invariants:
  small: state.level < 1000
"""


def scope(machine: Machine, status: str = "dark", payload: dict[str, Any] | None = None, **fields: Any) -> Scope:
    return Scope({**machine.initial_fields, **fields}, payload or {}, status, 1, "e", 2, 3, "p")


def lamp() -> Machine:
    return machine_of(LAMP)


def test_the_table_holds_one_entry_for_each_name_and_status() -> None:
    machine = lamp()

    assert {(name, status): len(found) for (_, name, status), found in machine.table.items()} == {
        ("made", "absent"): 1,
        ("turned", "dark"): 2,
        ("turned", "lit"): 2,
        ("tick", "dark"): 1,
        ("tick", "lit"): 1,
        ("broke", "dark"): 1,
        ("broke", "lit"): 1,
        ("swap", "lit"): 1,
        ("free", "lit"): 1,
    }
    first, second = machine.table[S, "turned", "dark"]
    assert (first.target, first.guard_text, first.number) == ("lit", "payload.to > 10", 0)
    assert first.assignment_texts == ("level = payload.to", "note = 'bright'")
    assert (second.target, second.guard, second.number) == (None, None, 1)


def test_right_hand_sides_see_the_old_state() -> None:
    machine = lamp()
    (swap,) = machine.table[P, "swap", "lit"]
    seen = scope(machine, "lit", {"a": 9})

    assert {name: evaluate(seen) for name, evaluate in swap.assignments} == {"level": 9, "note": "five"}


def test_the_machines_head() -> None:
    machine = lamp()

    assert (machine.entity, machine.version, machine.horizon_ms) == ("lamp", 3, 5_400_000)
    assert machine.initial_fields == {"level": 5, "note": None, "price": None}
    assert machine.decimal_fields == {"price"}
    assert machine.digest == parse_definition(LAMP).digest
    name, text, evaluate = machine.invariants[0]
    assert (name, text) == ("small", "state.level < 1000")
    assert evaluate(scope(machine, level=1000)) is False


def test_rules() -> None:
    rules = lamp().rules

    assert rules[S, "made"].dedup is Dedup.ONCE
    assert rules[S, "turned"].dedup is Dedup.KEY
    assert rules[S, "turned"].asks_for_late is True
    assert rules[S, "made"].asks_for_late is False
    assert (rules[S, "tick"].dedup, rules[S, "tick"].asks_for_late) == (Dedup.NEWEST, True)
    assert (rules[S, "broke"].dedup, rules[S, "broke"].dedup_fields) == (Dedup.FIELDS, ("code",))
    assert rules[S, "broke"].fence is Fence.NONE
    swap = rules[P, "swap"]
    assert (swap.fence, swap.fence_fields) == (Fence.FIELDS, ("level",))
    assert (swap.valid_for_ms, swap.priority) == (500, Priority.CRITICAL)
    assert (rules[P, "free"].fence, rules[P, "free"].dedup) == (Fence.NONE, Dedup.ONCE)
    assert (rules[P, "free"].valid_for_ms, rules[P, "free"].priority) == (None, Priority.NORMAL)


def test_a_state_from_before_a_field_existed_has_its_default() -> None:
    machine = lamp()
    (swap,) = machine.table[P, "swap", "lit"]

    assert swap.assignments[1][1](Scope({}, {"a": 1}, "lit", 1, "e", 1, 1, "")) == "five"


# --- payloads --------------------------------------------------------------------------------------------------------

PAYLOAD = """
entity: parcel
version: 1
statuses: [here]
signals:
  scanned:
    from: any
    payload:
      kind: {type: string, symbols: [a, b]}
      count: int
      total: long
      ratio: double
      ok: boolean
      at: timestamp
      price: {type: decimal, precision: 5, scale: 2}
      tags: {type: array, items: int}
      sizes: {type: map, values: double}
      note: string | null
"""
GOOD: dict[str, Any] = {
    "kind": "a",
    "count": 1,
    "total": 1,
    "ratio": 1.0,
    "ok": True,
    "at": 0,
    "price": Decimal("999.99"),
    "tags": [1],
    "sizes": {"x": 1.0},
    "note": None,
}


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("kind", "c", "string, one of a, b"),
        ("kind", None, "string"),
        ("count", 1 << 31, "int"),
        ("count", True, "int"),
        ("count", "1", "int"),
        ("total", 1 << 63, "long"),
        ("ratio", float("nan"), "double"),
        ("ratio", float("inf"), "double"),
        ("ratio", 1, "double"),
        ("ok", 1, "boolean"),
        ("at", 0.5, "timestamp"),
        ("price", Decimal("1000.00"), "decimal(5, 2)"),
        ("price", Decimal("1.001"), "decimal(5, 2)"),
        ("price", Decimal("NaN"), "decimal(5, 2)"),
        ("price", 1, "decimal(5, 2)"),
        ("tags", [1, "x"], "array of int"),
        ("tags", (1,), "array of int"),
        ("sizes", {"x": float("nan")}, "map of double"),
        ("sizes", {1: 1.0}, "map of double"),
        ("note", 1, "string | null"),
    ],
)
def test_what_a_field_accepts(field: str, value: Any, words: str) -> None:
    declared = parse_definition(PAYLOAD).signals["scanned"].payload[field]
    assert accepts(declared)(GOOD[field])
    assert not accepts(declared)(value)
    assert expected(declared).startswith(words)


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("kind", "c", "string, one of a, b, got 'c'"),
        ("ratio", float("nan"), "double, got nan"),
        ("sizes", {"x": float("inf")}, "map of double, got {'x': inf}"),
    ],
)
def test_a_decoded_payload_that_does_not_fit_names_the_field(field: str, value: Any, words: str) -> None:
    check = machine_of(PAYLOAD).rules[S, "scanned"].check_payload
    assert check(GOOD) == ""
    assert check({**GOOD, field: value}) == f"{field}: expected {words}"


def test_the_canonical_form_is_sorted_and_knows_no_defaults() -> None:
    canonical = machine_of(PAYLOAD).rules[S, "scanned"].canonical
    swapped = {**dict(reversed(GOOD.items())), "sizes": {"b": 1.0, "a": 2.0}}

    assert canonical(GOOD) == [(name, GOOD[name]) for name in sorted(GOOD) if name != "note"]
    assert list(dict(canonical(swapped))["sizes"]) == ["a", "b"]  # type: ignore[call-overload]  # pairs


def test_a_new_field_with_a_default_does_not_change_the_digest_of_an_old_retry() -> None:
    old = machine_of("entity: a\nversion: 1\nstatuses: [b]\nsignals: {s: {payload: {x: int}, from: any}}")
    new = machine_of(
        "entity: a\nversion: 2\nstatuses: [b]\n"
        "signals: {s: {payload: {x: int, more: {type: int, default: 7}, note: string | null}, from: any}}"
    )

    assert old.rules[S, "s"].canonical({"x": 1}) == new.rules[S, "s"].canonical({"x": 1, "more": 7, "note": None})


# --- what stands against compiling -----------------------------------------------------------------------------------


def test_all_problems_are_listed_in_file_order() -> None:
    text = LAMP.replace("payload.to > 10", "payload.too > 10").replace("state.level < 1000", "state.levl < 1000")
    text = text.replace("\"state.level == 5 ? 'five' : 'other'\"", "payload.a")
    found = compile_problems(parse_definition(text, "lamp.yaml"))

    assert [(error.line, error.path) for error in found] == [
        (17, "signals.turned.transitions.0.guard"),
        (28, "proposals.swap.set.note"),
        (31, "invariants.small"),
    ]


def test_an_unset_required_field_cannot_be_read_at_creation() -> None:
    text = """
entity: lamp
version: 1
statuses: [dark]
fields: {level: int}
signals:
  made: {payload: {level: int}, from: absent, to: dark, copy: [level], guard: state.level > 1}
"""
    (problem,) = compile_problems(parse_definition(text))

    assert problem.message == "state.level has no value while the entity is absent"


def test_guards_that_fail_are_no_booleans() -> None:
    machine = machine_of(
        "entity: a\nversion: 1\nstatuses: [b]\nsignals: {s: {payload: {x: int}, from: any, guard: 1 / payload.x > 0}}"
    )
    (transition,) = machine.table[S, "s", "b"]
    assert transition.guard is not None

    assert transition.guard(scope(machine, "b", {"x": 1})) is True
    assert isinstance(transition.guard(scope(machine, "b", {"x": 0})), Failed)


# --- what makes a proposal stale -------------------------------------------------------------------------------------


def test_made_stale_by_follows_the_fence() -> None:
    machine = lamp()

    assert made_stale_by(machine, "swap") == ["turned", "swap"]  # fence: [level]
    assert made_stale_by(machine, "free") == []  # fence: none
    exact = machine_of(LAMP.replace("fence: [level]", "fence: exact"))
    assert made_stale_by(exact, "swap") == ["turned", "broke", "swap", "free"]


def test_a_deletion_makes_every_fenced_proposal_stale() -> None:
    assert made_stale_by(example("wearable"), "escalate") == [
        "heart_rate", "all_clear", "device_unpaired", "escalate", "gone_silent", "nobody_escalated",
    ]  # fmt: skip
    assert made_stale_by(example("refund"), "pay") == ["order_corrected", "pay"]
