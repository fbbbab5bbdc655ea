"""Every reason of the ladder, by an input that earns it; and the order in which the rungs are asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from placet.processors.address import partition_of
from placet.processors.dedup import CLOCK_AHEAD_MAX_MS
from placet.schemas.codec.codec import Codec
from placet.schemas.codec.contracts import contracts
from placet.schemas.decision import REASONS, Conflict, Decision, First, Outcome, Reason, Retry
from placet.schemas.definition.model import parse_definition
from placet.schemas.errors import DecodeError
from placet.schemas.memory import Memory
from placet.schemas.messages import Kind, Message
from tests.unit.bench import NOW, PARTITIONS, Bench, proposal, signal

HORIZON_MS = 600_000
ORDER = """
entity: order
version: 1
horizon: 10m
statuses: [open, held, shipped]
final: [shipped]
fields:
  amount: {type: int, default: 0}
  weight: {type: int, default: 1}
  note: {type: string, default: ""}
  place: string | null
signals:
  opened: {payload: {amount: int}, dedup: once, from: absent, to: open, copy: amount}
  measured: {payload: {weight: int}, late: refuse, from: [open, held], copy: weight}
  seen: {payload: {place: string}, dedup: newest, from: any, copy: place}
  noted: {payload: {note: string}, from: any, copy: note}
  pinged: {payload: {place: string}, dedup: newest, elsewhere: ignore, from: held, copy: place}
  weighed: {payload: {weight: int}, elsewhere: ignore, from: held, copy: weight}
  removed: {from: any, to: absent}
proposals:
  raise:
    payload: {by: int}
    valid_for: 1m
    from: open
    guard: 100 / state.weight > 0 && payload.by > 0
    set: {amount: state.amount + payload.by}
  hold: {payload: {why: string}, fence: [status, amount], from: open, to: held, set: {note: payload.why}}
  tag: {payload: {note: string}, fence: none, dedup: [note], from: any, copy: note}
  release: {dedup: once, from: held, to: open}
invariants:
  not_too_much: state.amount <= 1000
"""


@pytest.fixture
def bench() -> Bench:
    """An order of 10 that is open at version 1."""
    bench = Bench(ORDER)
    assert bench.judge(signal("opened", {"amount": 10})).outcome is Outcome.ACCEPTED
    return bench


def raise_by(by: int = 5, **given: object) -> Message:
    return proposal("raise", {"by": by}, **{"dedup_key": "k-1", **given})


def assert_refused(decision: Decision, reason: Reason) -> None:
    assert (decision.outcome, decision.reason) == (Outcome.REFUSED, reason)
    assert decision.detail
    assert not decision.changed
    assert (decision.version_before, decision.status_before) == (decision.version_after, decision.status_after)


# Rung 1: decodes, right partition, key matches, payload valid ---------------------------------------------------------


OTHER = parse_definition(ORDER.replace("  release:", "  lift: {dedup: once, from: held, to: open}\n  release:"))
OTHERS = Codec(OTHER)
"""Of a definition with one proposal more."""


@pytest.mark.parametrize(
    ("mangle", "reason"),
    [
        (lambda value: value[:-3], Reason.UNDECODABLE),
        (lambda _value: b"{}", Reason.UNDECODABLE),
        (lambda value: value[:2] + b"\x00" * 8 + value[10:], Reason.UNKNOWN_SCHEMA),
    ],
)
def test_what_does_not_decode_is_refused_with_what_the_codec_says(
    bench: Bench, mangle: Callable[[bytes], bytes], reason: Reason
) -> None:
    value = mangle(bench.codec.encode_message(raise_by()))
    decision = bench.judge(raise_by(), value=value)
    assert_refused(decision, reason)
    with pytest.raises(DecodeError) as said:
        bench.codec.decode(Kind.PROPOSAL, value)
    assert (decision.detail, decision.entity_id, decision.name) == (str(said.value), "order-1", "")


def test_what_another_version_has_a_name_for_is_refused_by_that_name(bench: Bench) -> None:
    for schema in contracts(OTHER)._asdict().values():
        bench.codec.learn(schema)
    decision = bench.judge(raise_by(), value=OTHERS.encode_message(proposal("lift", input_id="p-7")))
    assert_refused(decision, Reason.INVALID_PAYLOAD)
    assert "lift" in decision.detail
    assert (decision.entity_id, decision.name, decision.input_id) == ("order-1", "lift", "p-7")


def test_an_unknown_schema_may_become_known(bench: Bench) -> None:
    unknown = OTHERS.encode_message(proposal("lift"))
    assert bench.judge(raise_by(), value=unknown).retry is Retry.LATER
    assert bench.judge(raise_by(), value=b"?").retry is Retry.NEVER


def test_a_record_without_value_is_undecodable(bench: Bench) -> None:
    assert_refused(bench.judge(raise_by(), value=None), Reason.UNDECODABLE)


def test_a_key_in_another_partition_would_have_two_owners(bench: Bench) -> None:
    stranger = raise_by(entity_id="order-2")
    home = partition_of(b"order-2", PARTITIONS)
    decision = bench.judge(stranger, partition=(home + 1) % PARTITIONS)
    assert_refused(decision, Reason.WRONG_PARTITION)
    assert f"partition {home}" in decision.detail


@pytest.mark.parametrize("key", [None, b"", b"order-2", b"order-1 "])
def test_the_key_is_the_entity_id(bench: Bench, key: bytes | None) -> None:
    assert_refused(bench.judge(raise_by(), key=key), Reason.KEY_MISMATCH)


@pytest.mark.parametrize(
    ("message", "named"),
    [
        (raise_by(dedup_key=None), "names no occasion"),
        (raise_by(dedup_key=""), "names no occasion"),
        (raise_by(dedup_key="k" * 513), "dedup key"),
        (raise_by(input_id=""), "id"),
        (raise_by(input_id="p" * 129), "128"),
        (raise_by(entity_id="e" * 513), "entity_id"),
    ],
)
def test_a_payload_that_breaks_the_contract_is_named(bench: Bench, message: Message, named: str) -> None:
    decision = bench.judge(message)
    assert_refused(decision, Reason.INVALID_PAYLOAD)
    assert named in decision.detail


# Rung 2: once -------------------------------------------------------------------------------------------------------


def test_a_repeat_gets_the_first_ones_id_and_version(bench: Bench) -> None:
    bench.judge(raise_by(input_id="p-1"))
    again = bench.judge(raise_by(input_id="p-2"), at=NOW + 5)
    assert (again.outcome, again.reason, again.retry) == (Outcome.DUPLICATE, Reason.REPEATED, Retry.NEVER)
    assert again.first == First("p-1", 2, NOW)
    assert bench.state("order-1").version == 2


def test_a_repeat_is_recognised_though_it_was_packed_anew(bench: Bench) -> None:
    bench.judge(raise_by())
    packed = raise_by(issued_at=NOW + 1, base_version=2, proposer="bob", valid_until=NOW + 9, caused_by="task-1")
    assert bench.judge(packed, at=NOW + 2).reason is Reason.REPEATED


@pytest.mark.parametrize("other", [raise_by(by=6), proposal("hold", {"why": "x"}, dedup_key="k-1", base_version=2)])
def test_a_key_names_one_occasion_only(bench: Bench, other: Message) -> None:
    bench.judge(raise_by())
    decision = bench.judge(other)
    assert_refused(decision, Reason.DEDUP_KEY_REUSED)
    assert decision.first == First("p-1", 2, NOW)


def test_a_refused_proposal_leaves_no_memory(bench: Bench) -> None:
    assert_refused(bench.judge(raise_by(by=-5)), Reason.GUARD_FAILED)
    assert bench.judge(raise_by(by=5)).outcome is Outcome.ACCEPTED


def test_the_occasion_is_derived_from_its_cause_never_from_the_base_version(bench: Bench) -> None:
    caused = raise_by(dedup_key=None, caused_by="task-1")
    assert bench.judge(caused).outcome is Outcome.ACCEPTED
    reread = replace(caused, input_id="p-2", base_version=2)
    assert bench.judge(reread).reason is Reason.REPEATED
    assert bench.judge(replace(reread, caused_by="task-2")).outcome is Outcome.ACCEPTED


def test_the_definition_computes_the_occasion_from_payload_fields(bench: Bench) -> None:
    assert bench.judge(proposal("tag", {"note": "fragile"}, input_id="p-1")).outcome is Outcome.ACCEPTED
    assert bench.judge(proposal("tag", {"note": "fragile"}, input_id="p-2", dedup_key="x")).reason is Reason.REPEATED
    assert bench.judge(proposal("tag", {"note": "urgent"}, input_id="p-3")).outcome is Outcome.ACCEPTED


def test_once_means_once_for_each_entity_and_name_whatever_the_key(bench: Bench) -> None:
    later = NOW + 10 * HORIZON_MS
    again = signal("opened", {"amount": 10}, input_id="s-9", dedup_key="new", issued_at=later, event_time=later)
    assert bench.judge(again, at=later).reason is Reason.REPEATED
    other = replace(again, payload={"amount": 11})
    assert_refused(bench.judge(other, at=later), Reason.DEDUP_KEY_REUSED)
    assert bench.judge(replace(again, entity_id="order-2"), at=later).outcome is Outcome.ACCEPTED


def test_of_the_newest_only_another_time_is_another_occasion(bench: Bench) -> None:
    seen = signal("seen", {"place": "hall"}, input_id="s-2")
    assert bench.judge(seen).outcome is Outcome.ACCEPTED
    assert bench.judge(replace(seen, input_id="s-3")).reason is Reason.REPEATED
    assert_refused(bench.judge(replace(seen, payload={"place": "yard"})), Reason.DEDUP_KEY_REUSED)
    assert_refused(bench.judge(replace(seen, event_time=NOW - 1)), Reason.SUPERSEDED)
    assert bench.judge(replace(seen, event_time=NOW + 1)).outcome is Outcome.ACCEPTED


def test_a_retry_of_what_was_overtaken_since(bench: Bench) -> None:
    """Of the newest only the newest is remembered; where an older fact may be applied, the key remembers each."""
    seen, measured = (
        signal("seen", {"place": "hall"}, input_id="s-2"),
        signal("measured", {"weight": 2}, input_id="s-3"),
    )
    for first in (seen, measured):
        assert bench.judge(first).outcome is Outcome.ACCEPTED
        assert bench.judge(replace(first, input_id=f"{first.input_id}-new", event_time=NOW + 1)).applied
    again = bench.judge(seen)
    assert_refused(again, Reason.SUPERSEDED)
    assert again.first is not None
    assert again.first.input_id == "s-2-new"
    assert bench.judge(measured).reason is Reason.REPEATED


def test_a_dedup_key_is_one_of_its_kind_and_its_entity(bench: Bench) -> None:
    assert bench.judge(signal("noted", {"note": "a"}, input_id="s-2", dedup_key="k")).outcome is Outcome.ACCEPTED
    assert bench.judge(raise_by(dedup_key="k", base_version=2)).outcome is Outcome.ACCEPTED, "another kind"
    other = signal("opened", {"amount": 1}, input_id="s-3", entity_id="order-2")
    assert bench.judge(other, key=b"order-2").outcome is Outcome.ACCEPTED
    noted = signal("noted", {"note": "b"}, input_id="s-4", dedup_key="k", entity_id="order-2")
    assert bench.judge(noted, key=b"order-2").outcome is Outcome.ACCEPTED, "another entity"
    assert_refused(bench.judge(signal("removed", input_id="s-5", dedup_key="k")), Reason.DEDUP_KEY_REUSED)


def test_memory_counts_as_long_as_a_retry_could_be_proved_new_on_log_time(bench: Bench) -> None:
    """A proposal may be issued up to a minute ahead of the log, so its key is remembered that much longer."""
    ahead = raise_by(issued_at=NOW + CLOCK_AHEAD_MAX_MS)
    assert bench.judge(ahead).outcome is Outcome.ACCEPTED
    last = NOW + HORIZON_MS + CLOCK_AHEAD_MAX_MS
    assert bench.judge(ahead, at=last, decided_at=NOW).reason is Reason.REPEATED
    assert_refused(bench.judge(ahead, at=last + 1, decided_at=NOW), Reason.TOO_LATE)


# Rungs 3 and 4: time --------------------------------------------------------------------------------------------------


def test_what_was_issued_before_the_horizon_can_not_be_proved_new(bench: Bench) -> None:
    assert bench.judge(signal("noted", {"note": "a"}, issued_at=NOW - HORIZON_MS)).outcome is Outcome.ACCEPTED
    late = signal("noted", {"note": "b"}, input_id="s-2", issued_at=NOW - HORIZON_MS - 1)
    assert_refused(bench.judge(late), Reason.TOO_LATE)


def test_when_it_happened_does_not_matter_for_the_horizon(bench: Bench) -> None:
    assert bench.judge(signal("noted", {"note": "a"}, event_time=5)).outcome is Outcome.ACCEPTED


@pytest.mark.parametrize("field", ["issued_at", "event_time"])
def test_a_clock_may_run_ahead_a_minute(bench: Bench, field: str) -> None:
    noted = signal("noted", {"note": "a"}, **{field: NOW + CLOCK_AHEAD_MAX_MS + 1})
    decision = bench.judge(noted)
    assert_refused(decision, Reason.CLOCK_AHEAD)
    assert decision.retry is Retry.LATER
    assert bench.judge(noted, at=NOW + 1).outcome is Outcome.ACCEPTED


def test_valid_until_is_bounded_by_valid_for(bench: Bench) -> None:
    minute = NOW + 60_000
    assert_refused(bench.judge(raise_by(), decided_at=minute + 1), Reason.EXPIRED)
    assert_refused(bench.judge(raise_by(valid_until=minute + 999), decided_at=minute + 1), Reason.EXPIRED)
    assert_refused(bench.judge(raise_by(valid_until=NOW + 5), decided_at=NOW + 6), Reason.EXPIRED)
    assert bench.judge(raise_by(), decided_at=minute).outcome is Outcome.ACCEPTED


def test_valid_until_counts_without_valid_for(bench: Bench) -> None:
    hold = proposal("hold", {"why": "x"}, dedup_key="k", valid_until=NOW + 5)
    assert_refused(bench.judge(hold, decided_at=NOW + 6), Reason.EXPIRED)
    assert bench.judge(hold, decided_at=NOW + 5).outcome is Outcome.ACCEPTED


AGED = ORDER.replace("    valid_for: 1m\n", "    valid_for: 1m\n    max_state_age: 30s\n")


@pytest.fixture
def aged() -> Bench:
    bench = Bench(AGED)
    bench.judge(signal("opened", {"amount": 10}))
    return bench


def test_a_state_that_was_read_too_long_ago_is_no_base(aged: Bench) -> None:
    old = aged.judge(raise_by(read_at=NOW - 30_001))
    assert_refused(old, Reason.STATE_TOO_OLD)
    assert (old.retry, "30001 ms old; at most 30000 ms" in old.detail) == (Retry.RECOMPUTE, True)
    assert_refused(aged.judge(raise_by(read_at=NOW - 30_000), decided_at=NOW + 1), Reason.STATE_TOO_OLD)
    assert_refused(aged.judge(raise_by(read_at=NOW - 99_999, valid_until=NOW - 1)), Reason.EXPIRED)
    assert_refused(aged.judge(raise_by(entity_id="order-2", read_at=NOW - 99_999)), Reason.STATE_TOO_OLD)
    applied = raise_by(read_at=NOW - 30_000)
    assert aged.judge(applied).outcome is Outcome.ACCEPTED
    assert aged.judge(applied, decided_at=NOW + 40_000).reason is Reason.REPEATED


def test_who_does_not_say_when_the_state_was_read_is_refused(aged: Bench) -> None:
    unsaid = aged.judge(raise_by())
    assert_refused(unsaid, Reason.STATE_TOO_OLD)
    assert "`read_at` is null" in unsaid.detail
    ahead = aged.judge(raise_by(read_at=NOW + CLOCK_AHEAD_MAX_MS + 1))
    assert_refused(ahead, Reason.STATE_TOO_OLD)
    assert "no time of reading" in ahead.detail
    assert aged.judge(raise_by(read_at=NOW + CLOCK_AHEAD_MAX_MS)).outcome is Outcome.ACCEPTED


def test_other_proposals_of_the_definition_need_not_say_it(aged: Bench) -> None:
    assert aged.judge(proposal("hold", {"why": "x"}, dedup_key="k")).outcome is Outcome.ACCEPTED
    tag = proposal("tag", {"note": "a"}, read_at=1)
    assert aged.judge(tag).outcome is Outcome.ACCEPTED, "it is not looked at"


def test_only_contracts_of_who_asks_have_the_time_of_reading(bench: Bench, aged: Bench) -> None:
    before, asks = contracts(parse_definition(ORDER)), contracts(parse_definition(AGED))
    names = [[column["name"] for column in made.proposal["fields"]] for made in (before, asks)]
    assert [name for name in names[1] if name != "read_at"] == names[0]
    assert (before.signal, before.change) == (asks.signal, asks.change)

    aged.codec.learn(before.proposal)
    unsaid = bench.codec.encode_message(raise_by(read_at=NOW))
    assert_refused(aged.judge(raise_by(), value=unsaid), Reason.STATE_TOO_OLD)
    bench.codec.learn(asks.proposal)
    said = aged.codec.encode_message(raise_by(read_at=NOW - 99_999))
    assert bench.judge(raise_by(), value=said).outcome is Outcome.ACCEPTED, "its rules do not ask"


# Rungs 7 to 9: the state ----------------------------------------------------------------------------------------------


def test_no_transition_for_the_status_is_illegal(bench: Bench) -> None:
    decision = bench.judge(proposal("release"))
    assert_refused(decision, Reason.ILLEGAL_TRANSITION)
    assert decision.detail == "no `release` from `open`"
    assert_refused(bench.judge(raise_by(entity_id="order-2", base_version=0)), Reason.ILLEGAL_TRANSITION)


def test_a_fact_is_ignored_elsewhere_and_leaves_no_memory(bench: Bench) -> None:
    weighed = signal("weighed", {"weight": 7}, input_id="s-2", dedup_key="k")
    decision = bench.judge(weighed)
    assert_refused(decision, Reason.IGNORED)
    assert (decision.detail, decision.retry) == ("no `weighed` from `open`", Retry.NEVER)
    assert_refused(bench.judge(replace(weighed, entity_id="order-2")), Reason.IGNORED)
    assert "order-2" not in bench.states
    bench.judge(proposal("hold", {"why": "x"}, dedup_key="k-1"))
    assert_refused(bench.judge(replace(weighed, issued_at=NOW - HORIZON_MS - 1)), Reason.TOO_LATE)
    assert bench.judge(weighed).outcome is Outcome.ACCEPTED, "judged afresh in another status"
    bench.judge(proposal("release", base_version=3))
    assert bench.judge(weighed).reason is Reason.REPEATED, "what was applied was applied"


def test_an_ignored_fact_supersedes_nothing(bench: Bench) -> None:
    assert_refused(bench.judge(signal("pinged", {"place": "hall"}, input_id="s-2", event_time=NOW)), Reason.IGNORED)
    bench.judge(proposal("hold", {"why": "x"}, dedup_key="k-1"))
    older = signal("pinged", {"place": "yard"}, input_id="s-3", event_time=NOW - 1)
    assert bench.judge(older).outcome is Outcome.ACCEPTED
    bench.judge(proposal("release", base_version=3))
    oldest = replace(older, input_id="s-4", event_time=NOW - 2)
    assert_refused(bench.judge(oldest), Reason.IGNORED)


def test_stale_names_the_commits_and_fields_that_conflicted(bench: Bench) -> None:
    bench.judge(signal("noted", {"note": "a"}, input_id="s-2"))
    bench.judge(signal("measured", {"weight": 2}, input_id="s-3"))
    bench.judge(signal("noted", {"note": "b"}, input_id="s-4"))
    decision = bench.judge(raise_by(base_version=1))
    assert_refused(decision, Reason.STALE)
    assert decision.retry is Retry.RECOMPUTE
    assert decision.conflicts == (Conflict(3, ("weight",)), Conflict(4, ("note",)))


def test_a_fence_on_fields_minds_these_only(bench: Bench) -> None:
    bench.judge(signal("noted", {"note": "a"}, input_id="s-2"))
    assert bench.judge(proposal("hold", {"why": "x"}, dedup_key="k-1")).outcome is Outcome.ACCEPTED
    bench.judge(proposal("release", base_version=3))
    decision = bench.judge(proposal("hold", {"why": "y"}, dedup_key="k-2", base_version=1))
    assert_refused(decision, Reason.STALE)
    assert decision.conflicts == (Conflict(4, ("status",)),)


def test_a_fence_on_fields_minds_the_status_only_where_it_names_it() -> None:
    for fence, reason in (("[amount]", Reason.NONE), ("[amount, status]", Reason.STALE)):
        bench = Bench(ORDER.replace("fence: [status, amount], from: open", f"fence: {fence}, from: [open, held]"))
        bench.judge(signal("opened", {"amount": 10}))
        assert bench.judge(proposal("hold", {"why": "x"}, dedup_key="k-1", base_version=1)).applied
        assert bench.judge(proposal("hold", {"why": "y"}, dedup_key="k-2", base_version=1)).reason is reason


TICKET = """
entity: ticket
version: 1
statuses: [open]
fields:
  estimate: {type: int, default: 0}
  note: {type: string, default: ""}
signals:
  opened: {from: absent, to: open}
  noted: {payload: {note: string}, from: any, copy: note}
  removed: {from: any, to: absent}
proposals:
  assess: {payload: {estimate: int}, fence: [estimate], from: open, copy: estimate}
  reset: {fence: [estimate], from: [absent, open], to: open, set: {note: "'again'"}}
  close: {from: open, to: absent}
  tag: {payload: {note: string}, fence: none, from: open, copy: note}
"""


@pytest.fixture
def second_life() -> Bench:
    """A ticket opened (1), removed (2), opened again (3) within the horizon; its estimate never left the default."""
    bench = Bench(TICKET)
    for number, name in enumerate(("opened", "removed", "opened")):
        assert bench.judge(signal(name, input_id=f"s-{number}")).version_after == number + 1
    return bench


@pytest.mark.parametrize("base", [1, 2], ids=["the first life", "the deleted entity"])
def test_a_fence_on_fields_is_stale_across_deletion_and_creation(second_life: Bench, base: int) -> None:
    decision = second_life.judge(proposal("assess", {"estimate": 5}, base_version=base, dedup_key="k"))
    assert_refused(decision, Reason.STALE)
    assert decision.conflicts == (Conflict(3, ("estimate",)),)
    assert decision.detail == (
        f"based on version {base}, the state is at 3; the entity was deleted and created again in between"
    )


def test_in_its_second_life_a_fence_on_fields_minds_these_only(second_life: Bench) -> None:
    assert second_life.judge(signal("noted", {"note": "x"}, input_id="s-3")).version_after == 4
    accepted = second_life.judge(proposal("assess", {"estimate": 5}, base_version=3, dedup_key="k-1"))
    assert accepted.outcome is Outcome.ACCEPTED
    stale = second_life.judge(proposal("assess", {"estimate": 6}, base_version=4, dedup_key="k-2"))
    assert stale.conflicts == (Conflict(5, ("estimate",)),)
    assert "created again" not in stale.detail


def test_a_field_that_was_set_since_is_named_with_its_own_version(second_life: Bench) -> None:
    second_life.judge(proposal("assess", {"estimate": 5}, base_version=3, dedup_key="k-1"))
    stale = second_life.judge(proposal("assess", {"estimate": 6}, base_version=1, dedup_key="k-2"))
    assert stale.conflicts == (Conflict(4, ("estimate",)),)
    assert "deleted and created again" in stale.detail


@pytest.mark.parametrize("base", [-1, -3])
def test_a_base_below_zero_is_older_than_any_and_tells_of_no_second_life(bench: Bench, base: int) -> None:
    exact = bench.judge(raise_by(base_version=base))
    fields = bench.judge(proposal("hold", {"why": "x"}, base_version=base, dedup_key="k-2"))
    for decision in (exact, fields):
        assert_refused(decision, Reason.STALE)
        assert decision.detail == f"based on version {base}, the state is at 1"


def test_a_base_below_zero_tells_of_a_second_life_where_there_is_one(second_life: Bench) -> None:
    stale = second_life.judge(proposal("close", base_version=-3, dedup_key="k"))
    assert stale.detail.endswith("; the entity was deleted and created again in between")


def test_the_other_fences_know_nothing_of_lives(second_life: Bench) -> None:
    exact = second_life.judge(proposal("close", base_version=1, dedup_key="k-1"))
    assert exact.conflicts == (Conflict(3, ("status",)),)
    none = second_life.judge(proposal("tag", {"note": "x"}, base_version=1, dedup_key="k-2"))
    assert none.outcome is Outcome.ACCEPTED


def test_what_is_legal_for_a_deleted_entity_is_judged_by_the_table() -> None:
    bench = Bench(TICKET)
    for number, name in enumerate(("opened", "removed")):
        bench.judge(signal(name, input_id=f"s-{number}"))
    created = bench.judge(proposal("reset", base_version=1, dedup_key="k"))
    assert (created.outcome, created.status_before, created.version_after) == (Outcome.ACCEPTED, "absent", 3)
    assert bench.state("order-1").field_versions == {"status": 3, "note": 3, "": 3}


def test_what_commutes_needs_no_base(bench: Bench) -> None:
    bench.judge(signal("noted", {"note": "a"}, input_id="s-2"))
    tag = proposal("tag", {"note": "b"}, base_version=0, base_incarnation=7)
    assert bench.judge(tag).outcome is Outcome.ACCEPTED
    ahead = proposal("tag", {"note": "c"}, base_version=99)
    assert bench.judge(ahead).outcome is Outcome.ACCEPTED, "nor does it matter that no such version was ever committed"


def test_calm_facts_make_nothing_stale(bench: Bench) -> None:
    decision = bench.judge(signal("measured", {"weight": 1}, input_id="s-2"))
    assert (decision.outcome, decision.changed, decision.version_after) == (Outcome.ACCEPTED, False, 1)
    assert bench.judge(raise_by(base_version=1)).outcome is Outcome.ACCEPTED


def test_a_version_that_was_never_committed_is_ahead(bench: Bench) -> None:
    assert_refused(bench.judge(raise_by(base_version=2)), Reason.VERSION_AHEAD)


def test_another_incarnation_is_another_entity(bench: Bench) -> None:
    assert_refused(bench.judge(raise_by(base_incarnation=NOW - 5)), Reason.STALE)
    assert_refused(bench.judge(raise_by(base_incarnation=0)), Reason.STALE)
    assert bench.judge(raise_by(base_incarnation=NOW)).outcome is Outcome.ACCEPTED


def test_an_older_fact_of_the_same_name_is_superseded(bench: Bench) -> None:
    bench.judge(signal("measured", {"weight": 2}, input_id="s-2", event_time=NOW - 10))
    bench.judge(signal("measured", {"weight": 3}, input_id="s-3", event_time=NOW - 5))
    decision = bench.judge(signal("measured", {"weight": 4}, input_id="s-4", event_time=NOW - 6))
    assert_refused(decision, Reason.SUPERSEDED)
    assert decision.first == First("s-3", 3, NOW)
    assert (
        bench.judge(signal("measured", {"weight": 4}, input_id="s-5", event_time=NOW - 5)).outcome is Outcome.ACCEPTED
    )
    assert bench.judge(signal("noted", {"note": "old"}, input_id="s-6", event_time=1)).outcome is Outcome.ACCEPTED


METER = """
entity: order
version: 1
horizon: 10m
statuses: [running, billed, closed]
fields: {kwh: {type: long, default: 0}, missed: {type: int, default: 0}}
signals:
  started: {from: absent, to: running}
  billed: {from: running, to: billed}
  closed: {from: any, to: closed}
  removed: {from: any, to: absent}
  counted:
    payload: {kwh: long}
    late: compensate
    transitions:
      - {from: [running, closed], copy: kwh}
      - {from: running, late: true, guard: payload.kwh > 0, set: {missed: state.missed + 1}}
      - {from: billed, late: true, set: {missed: state.missed + 10}}
"""


def counted(ago_ms: int, kwh: int = 5, **given: object) -> Message:
    return signal("counted", {"kwh": kwh}, input_id=f"c-{ago_ms}", event_time=NOW - ago_ms, **given)


@pytest.fixture
def meter() -> Bench:
    """A meter that counted ten milliseconds ago, at version 2."""
    meter = Bench(METER)
    assert meter.judge(signal("started")).outcome is Outcome.ACCEPTED
    assert meter.judge(counted(10)).version_after == 2
    return meter


def test_a_late_fact_takes_a_transition_of_its_own(meter: Bench) -> None:
    late = meter.judge(counted(20, 7))
    assert (late.outcome, late.reason, late.version_after) == (Outcome.ACCEPTED, Reason.NONE, 3)
    assert meter.state("order-1").fields == {"kwh": 5, "missed": 1}
    assert meter.judge(counted(20, 7)).reason is Reason.REPEATED, "it is remembered by its key"
    assert meter.judge(counted(15, 8)).outcome is Outcome.ACCEPTED, "late too: the newest stays the newest"
    assert meter.state("order-1").fields == {"kwh": 5, "missed": 2}
    assert meter.state("order-1").applied["counted"].input_id == "c-10"
    assert meter.judge(counted(5, 9)).outcome is Outcome.ACCEPTED
    assert meter.state("order-1").fields == {"kwh": 9, "missed": 2}


def test_a_fact_of_the_same_time_is_not_late(meter: Bench) -> None:
    assert meter.judge(counted(10, 7, dedup_key="other")).outcome is Outcome.ACCEPTED
    assert meter.state("order-1").fields == {"kwh": 7, "missed": 0}


def test_late_transitions_have_guards_and_statuses_as_others_have(meter: Bench) -> None:
    assert_refused(meter.judge(counted(20, 0)), Reason.GUARD_FAILED)
    meter.judge(signal("billed", input_id="s-2"))
    assert_refused(meter.judge(counted(5)), Reason.ILLEGAL_TRANSITION)
    assert meter.judge(counted(20)).outcome is Outcome.ACCEPTED
    assert meter.state("order-1").fields == {"kwh": 5, "missed": 10}


def test_a_late_fact_is_superseded_where_nothing_compensates_it(meter: Bench) -> None:
    meter.judge(signal("closed", input_id="s-2"))
    late = meter.judge(counted(20))
    assert_refused(late, Reason.SUPERSEDED)
    assert late.first == First("c-10", 2, NOW)
    assert meter.judge(counted(5)).outcome is Outcome.ACCEPTED
    meter.judge(signal("removed", input_id="s-3"))
    assert_refused(meter.judge(counted(20)), Reason.ILLEGAL_TRANSITION)


# Rung 10: guards and invariants ---------------------------------------------------------------------------------------


def test_a_guard_that_does_not_hold_is_shown(bench: Bench) -> None:
    decision = bench.judge(raise_by(by=0))
    assert_refused(decision, Reason.GUARD_FAILED)
    assert "payload.by > 0" in decision.detail


def test_a_guard_that_can_not_be_evaluated_refuses(bench: Bench) -> None:
    bench.judge(signal("measured", {"weight": 0}, input_id="s-2"))
    decision = bench.judge(raise_by(base_version=2))
    assert_refused(decision, Reason.GUARD_ERROR)
    assert "divide by zero" in decision.detail


def test_a_value_outside_its_field_refuses(bench: Bench) -> None:
    decision = bench.judge(raise_by(by=2**31 - 1))
    assert_refused(decision, Reason.GUARD_ERROR)
    assert "amount" in decision.detail


def test_an_invariant_is_kept_by_refusing(bench: Bench) -> None:
    decision = bench.judge(raise_by(by=991))
    assert_refused(decision, Reason.INVARIANT_VIOLATED)
    assert "not_too_much" in decision.detail
    assert bench.judge(raise_by(by=990)).outcome is Outcome.ACCEPTED


def test_a_state_has_a_largest_size(bench: Bench) -> None:
    decision = bench.judge(signal("noted", {"note": "x" * 262_144}, input_id="s-2"))
    assert_refused(decision, Reason.STATE_TOO_LARGE)
    assert bench.judge(signal("noted", {"note": "x" * 261_000}, input_id="s-2")).outcome is Outcome.ACCEPTED


# Rung 11, and the whole -----------------------------------------------------------------------------------------------


def test_an_accepted_change_is_told_whole(bench: Bench) -> None:
    decision = bench.judge(proposal("hold", {"why": "x"}, dedup_key="k"))
    assert (decision.outcome, decision.reason, decision.changed) == (Outcome.ACCEPTED, Reason.NONE, True)
    assert (decision.version_before, decision.version_after, decision.incarnation) == (1, 2, NOW)
    assert (decision.status_before, decision.status_after) == ("open", "held")
    assert (decision.name, decision.input_id, decision.dedup_key) == ("hold", "p-1", "key:k")
    assert (decision.detail, decision.first, decision.conflicts) == ("", None, ())
    assert len(decision.payload_digest) == 16


REPAIRS: list[tuple[Reason, dict[str, object], dict[str, object]]] = [
    (Reason.UNDECODABLE, {"value": None}, {}),
    (Reason.WRONG_PARTITION, {"partition": 99}, {}),
    (Reason.KEY_MISMATCH, {"key": b"someone-else"}, {}),
    (Reason.INVALID_PAYLOAD, {}, {"input_id": ""}),
    (Reason.DEDUP_KEY_REUSED, {}, {"dedup_key": "used"}),
    (Reason.TOO_LATE, {}, {"issued_at": NOW - HORIZON_MS - 1}),
    (Reason.EXPIRED, {}, {"valid_until": NOW - 1}),
    (Reason.ILLEGAL_TRANSITION, {}, {"entity_id": "order-2"}),
    (Reason.STALE, {}, {"base_version": 1}),
    (Reason.GUARD_FAILED, {}, {"payload": {"by": 0}}),
    (Reason.INVARIANT_VIOLATED, {}, {"payload": {"by": 999}}),
]


@pytest.mark.parametrize("repaired", range(len(REPAIRS) + 1))
def test_of_all_that_is_wrong_the_first_rung_is_named(bench: Bench, repaired: int) -> None:
    """One proposal with every fault at once; as they are mended one by one, the next rung's reason comes up."""
    used = bench.judge(raise_by(dedup_key="used"))
    memory = Memory(used.payload_digest, used.input_id, 2, NOW)
    bench.memories[Kind.PROPOSAL, "order-2", used.dedup_key] = memory  # so that memory is asked before the status
    given: dict[str, object] = {"base_version": 2, "payload": {"by": 5}, "dedup_key": "fresh"}
    place: dict[str, object] = {}
    for _, placed, faults in reversed(REPAIRS[repaired:]):
        given |= faults
        place |= placed
    payload = given.pop("payload")
    place.setdefault("key", str(given.get("entity_id", "order-1")).encode())
    decision = bench.judge(proposal("raise", payload, **given), **place)  # type: ignore[arg-type]
    expected = REPAIRS[repaired][0] if repaired < len(REPAIRS) else Reason.NONE
    assert decision.reason is expected, decision.detail


def test_a_repeat_of_an_accepted_proposal_is_no_stale_one(bench: Bench) -> None:
    """The order of the rungs, once more in words: stale, expired and out of place, but the first decision counts."""
    bench.judge(proposal("hold", {"why": "x"}, dedup_key="k", valid_until=NOW + 1))
    again = bench.judge(proposal("hold", {"why": "x"}, dedup_key="k", valid_until=NOW + 1), at=NOW + 50_000)
    assert (again.reason, again.first) == (Reason.REPEATED, First("p-1", 2, NOW))


def test_facts_are_neither_fenced_nor_do_they_expire(bench: Bench) -> None:
    bench.judge(raise_by())
    noted = signal("noted", {"note": "a"}, input_id="s-2")
    assert bench.judge(noted, decided_at=NOW + 10**9).outcome is Outcome.ACCEPTED


def test_an_old_fact_about_the_wrong_status_is_illegal_first(bench: Bench) -> None:
    bench.judge(signal("measured", {"weight": 2}, input_id="s-2"))
    bench.judge(signal("removed", input_id="s-3"))
    older = signal("measured", {"weight": 3}, input_id="s-4", event_time=NOW - 1)
    assert_refused(bench.judge(older), Reason.ILLEGAL_TRANSITION)


def test_every_reason_has_a_meaning_and_something_to_do() -> None:
    assert set(REASONS) == set(Reason)
    assert all(text.meaning and text.todo for text in REASONS.values())
