"""What expires and what must not: dedup memory, deleted entities, incarnations; by log time, never by the clock."""

from __future__ import annotations

from hypothesis import given, note
from hypothesis import strategies as st

from placet.schemas.decision import First, Outcome, Reason
from placet.schemas.ledger import Commit
from placet.schemas.messages import Kind, Message
from placet.schemas.state import ABSENT
from placet.streams.records import TopicPartition
from placet.streams.state import layout
from placet.testing import START_MS, TestDriver
from tests.property.game import PARTITIONS, Game
from tests.property.strategies import HORIZON_MS, as_yaml, definitions, histories, thorough

KEEP_MS = HORIZON_MS + 60_000
"""How long a memory counts: the horizon, and what a producer's clock may be ahead."""

ROOM = """
entity: room
version: 1
horizon: 10m
statuses: [open]
fields: {guests: {type: int, default: 0}}
signals:
  opened: {from: absent, to: open}
  entered: {payload: {count: int}, from: open, set: {guests: state.guests + payload.count}}
  aired: {from: [open, absent]}
  closed: {from: open, to: absent}
  knocked: {dedup: once, from: [open, absent]}
proposals:
  book: {payload: {who: string}, dedup: [who], fence: none, from: open, set: {guests: state.guests + 1}}
  clear: {from: open, set: {guests: 0}}
"""


def driver() -> TestDriver:
    return TestDriver.from_text(ROOM)


def keys(gate: TestDriver, prefix: bytes) -> list[bytes]:
    return [key for key, _ in gate.task().store.scan(prefix, prefix, 1_000_000)]


def reminded(gate: TestDriver) -> list[bytes]:
    """The keys that something reminds of."""
    found = gate.task().store.scan(b"t", b"t", 1_000_000)
    return [key for reminder, keys in found for key in layout.expiring_keys(reminder, keys)]


def commits(gate: TestDriver) -> list[Commit]:
    return [entry for entry in gate.ledger if isinstance(entry, Commit)]


# Dedup memory ---------------------------------------------------------------------------------------------------------


@thorough(50)
@given(st.integers(0, KEEP_MS), st.booleans())
def test_a_retry_is_recognised_for_as_long_as_it_could_be_proved_new(waited_ms: int, restarted: bool) -> None:
    gate = driver()
    gate.signal("r", "opened", signal_id="s-1")
    ahead = START_MS + 60_000
    gate.signal("r", "entered", {"count": 2}, signal_id="s-2", issued_at=ahead)
    gate.advance(milliseconds=waited_ms)
    if restarted:
        gate.restart()
    again = gate.signal("r", "entered", {"count": 2}, signal_id="s-2", issued_at=ahead)
    assert (again.reason, again.first) == (Reason.REPEATED, First("s-2", 2, START_MS))


def test_after_that_the_same_occasion_is_a_new_one() -> None:
    gate = driver()
    gate.signal("r", "opened", signal_id="s-1")
    assert gate.propose("r", "book", {"who": "ann"}).outcome is Outcome.ACCEPTED
    gate.advance(milliseconds=KEEP_MS)
    assert gate.propose("r", "book", {"who": "ann"}).reason is Reason.REPEATED
    gate.advance(milliseconds=1)
    assert gate.propose("r", "book", {"who": "ann"}).outcome is Outcome.ACCEPTED
    assert gate.read("r").fields["guests"] == 2


def test_a_memory_renewed_just_after_it_expired_is_not_deleted_with_its_old_self() -> None:
    """The first transaction after the expiry both deletes what is old and remembers anew under the same key."""
    gate = driver()
    gate.signal("r", "opened", signal_id="s-1")
    gate.propose("r", "book", {"who": "ann"})
    gate.advance(milliseconds=KEEP_MS + 1)
    assert gate.propose("r", "book", {"who": "ann"}).outcome is Outcome.ACCEPTED
    assert gate.propose("r", "book", {"who": "ann"}).reason is Reason.REPEATED
    gate.restart()
    assert gate.propose("r", "book", {"who": "ann"}).reason is Reason.REPEATED


def test_a_calm_memory_renewed_just_after_it_expired_stays_in_the_ledger() -> None:
    gate = driver()
    gate.signal("r", "aired", signal_id="s-1", dedup_key="k")
    gate.advance(milliseconds=KEEP_MS - 1)
    gate.signal("r", "opened", signal_id="s-2")
    gate.log.append(TopicPartition(gate.topics.signals, 0), gate.now_ms + 2, b"r", _signal(gate, "aired", "s-3", "k"))
    assert gate.run()[0].decision.outcome is Outcome.ACCEPTED
    key = layout.memory_ledger_key(Kind.SIGNAL, "r", "key:k")
    assert [record.value is None for record in _ledger(gate, key)] == [False, False]
    gate.restart()
    assert gate.signal("r", "aired", signal_id="s-4", dedup_key="k").reason is Reason.REPEATED


def test_an_occasion_renewed_by_a_change_is_not_aged_by_the_ledgers_older_entry() -> None:
    """Restores read the changelog first: what the ledger says of the first time must not overwrite the second."""
    gate = driver()
    gate.signal("r", "opened", signal_id="s-1")
    assert not gate.signal("r", "entered", {"count": 0}, signal_id="s-2", dedup_key="k").changed
    gate.advance(milliseconds=KEEP_MS + 1)
    assert gate.signal("r", "entered", {"count": 2}, signal_id="s-3", dedup_key="k").changed
    gate.restart()
    assert gate.signal("r", "entered", {"count": 2}, signal_id="s-4", dedup_key="k").reason is Reason.REPEATED


def _signal(gate: TestDriver, name: str, signal_id: str, dedup_key: str | None = None) -> bytes:
    now = gate.now_ms
    return gate.codec.encode_message(Message(Kind.SIGNAL, name, signal_id, "r", {}, now, now, dedup_key, None))


def _ledger(gate: TestDriver, key: bytes) -> list:
    return [record for record in gate.log.records(TopicPartition(gate.topics.ledger, 0)) if record.key == key]


def test_an_outage_ages_nothing() -> None:
    """A gate that was away for a day finds an input and its retry waiting: the clock is not what memory goes by."""
    gate = driver()
    gate.signal("r", "opened", signal_id="s-1")
    gate.signal("r", "aired", signal_id="s-2")
    inputs, then = TopicPartition(gate.topics.signals, 0), gate.now_ms
    first, *others = [_signal(gate, "aired", f"a-{number}") for number in range(3)]
    gate.log.append(inputs, then, b"r", first)
    gate.advance(days=1)
    gate.run()
    for step, value in enumerate([*others, first], 1):  # each in a transaction of its own
        gate.log.append(inputs, then + 1_000 * step, b"r", value)
        gate.run()
    assert [decision.reason for decision in gate.decisions[2:]] == [Reason.NONE] * 3 + [Reason.REPEATED]
    assert gate.decided[-1].at.log_time == then + 3_000
    assert gate.decided[-1].at.decided_at == then + 86_400_000


@thorough(100)
@given(definitions(), histories())
def test_when_everything_has_expired_only_the_living_are_kept(rules: dict, history: list[bytes]) -> None:
    note(as_yaml(rules))
    game = Game(rules)
    game.play(history)
    gate = game.driver
    for _ in range(3):  # the last transaction's own memory, and what an absent entity remembers beyond its deletion
        gate.advance(milliseconds=KEEP_MS + 1)
    for partition in range(PARTITIONS):
        task = gate.task(partition)
        task.process([], gate.now_ms, gate.now_ms)
        task.committed({})
        store = task.store
        kept = [key for prefix in (b"d", b"t", b"u", b"x") for key, _ in store.scan(prefix, prefix, 10)]
        # That a timer fired without a change is told by the ledger alone, for as long as its entity has no later one.
        fired = [key.partition(b"udisarmed/")[2].rpartition(b"/")[0] for key in kept]
        assert all(entity and gate.read(entity.decode()).armed is None for entity in fired), kept
        states = [gate.read(key[1:].decode()) for key, _ in store.scan(b"s", b"s", 10)]
        assert ABSENT not in [state.status for state in states]


def test_the_ledger_forgets_with_the_store() -> None:
    gate = driver()
    gate.signal("r", "opened", signal_id="s-1")
    gate.signal("r", "aired", signal_id="s-2")
    key = layout.memory_ledger_key(Kind.SIGNAL, "r", "key:s-2")
    assert [record.value is None for record in _ledger(gate, key)] == [False]
    gate.advance(milliseconds=KEEP_MS + 1)
    assert [record.value is None for record in _ledger(gate, key)] == [False, True]
    assert keys(gate, b"u") == keys(gate, b"d") == []


# Deleted entities -----------------------------------------------------------------------------------------------------


def test_a_deleted_entity_keeps_its_counter_for_the_horizon_then_gets_a_tombstone() -> None:
    gate = driver()
    gate.signal("r", "opened", signal_id="s-1")
    gate.signal("r", "closed", signal_id="s-2")
    gate.advance(milliseconds=KEEP_MS)
    assert gate.read("r").version == 2
    assert None not in gate.changelog
    gate.advance(milliseconds=1)
    assert gate.read("r").version == 0
    assert gate.changelog[-1] is None
    tombstone = gate.log.records(TopicPartition(gate.topics.changelog, 0))[-1]
    assert (tombstone.key, tombstone.headers) == (b"r", [("placet-tombstone", b"2/1/3")])


def test_created_again_before_the_tombstone_it_goes_on_counting() -> None:
    gate = driver()
    gate.signal("r", "opened", signal_id="s-1")
    gate.signal("r", "closed", signal_id="s-2")
    gate.advance(milliseconds=KEEP_MS)
    created = gate.signal("r", "opened", signal_id="s-3")
    assert (created.version_after, created.incarnation) == (3, START_MS + KEEP_MS)
    gate.advance(milliseconds=KEEP_MS)
    assert gate.read("r").status == "open"
    assert None not in gate.changelog


def test_created_again_after_the_tombstone_it_is_another_one_and_the_fence_sees_that() -> None:
    gate = driver()
    gate.signal("r", "opened", signal_id="s-1")
    seen = gate.read("r")
    gate.signal("r", "closed", signal_id="s-2")
    gate.advance(milliseconds=KEEP_MS + 1)
    created = gate.signal("r", "opened", signal_id="s-3")
    assert (created.version_after, created.incarnation) == (1, START_MS + KEEP_MS + 1)
    stale = gate.propose("r", "clear", dedup_key="k", base=seen)
    assert stale.reason is Reason.STALE
    assert gate.propose("r", "clear", dedup_key="k", base=gate.read("r")).outcome is Outcome.ACCEPTED


def test_what_an_absent_entity_still_remembers_by_name_keeps_it_from_being_forgotten() -> None:
    gate = driver()
    gate.signal("r", "opened", signal_id="s-1")
    gate.signal("r", "closed", signal_id="s-2")
    gate.advance(milliseconds=KEEP_MS - 10)
    gate.signal("r", "knocked", signal_id="s-3")  # `once`, remembered by the absent entity
    gate.advance(milliseconds=KEEP_MS)
    assert gate.signal("r", "knocked", signal_id="s-4").reason is Reason.REPEATED
    gate.advance(milliseconds=1)
    assert gate.read("r").version == 0
    assert gate.signal("r", "knocked", signal_id="s-5").outcome is Outcome.ACCEPTED


def test_one_that_was_never_created_is_forgotten_too() -> None:
    gate = driver()
    gate.signal("r", "knocked", signal_id="s-1")
    gate.advance(milliseconds=KEEP_MS)
    gate.restart()
    assert gate.signal("r", "knocked", signal_id="s-2").reason is Reason.REPEATED
    gate.advance(milliseconds=1)
    assert keys(gate, b"s") == keys(gate, b"x") == []
    gate.restart()
    assert keys(gate, b"s") == keys(gate, b"x") == []


def test_what_an_earlier_incarnation_remembered_is_not_brought_back_by_a_restore() -> None:
    gate = driver()
    gate.signal("r", "opened", signal_id="s-1")
    gate.signal("r", "knocked", signal_id="s-2")
    gate.signal("r", "closed", signal_id="s-3")
    gate.advance(milliseconds=KEEP_MS + 1)
    gate.signal("r", "opened", signal_id="s-4")
    gate.restart()
    assert list(gate.read("r").applied) == ["opened"]
    assert gate.signal("r", "knocked", signal_id="s-5").outcome is Outcome.ACCEPTED


# Bounded work ---------------------------------------------------------------------------------------------------------


def test_each_transaction_deletes_a_bounded_number_and_none_is_missed() -> None:
    gate = driver()
    gate.signal("r", "opened", signal_id="s", dedup_key="s-0")
    gate.advance(milliseconds=KEEP_MS + 1)
    for number in range(6_000):
        gate.append(Kind.SIGNAL, b"r", _signal(gate, "aired", f"s-{number}"))
    gate.run()
    assert len(reminded(gate)) == 12_000, "of each memory, and of its ledger entry"
    before = len(commits(gate))
    gate.advance(milliseconds=KEEP_MS + 1)
    assert len(commits(gate)) - before == 3, "5,000 at a time, and what is reminded of with the last"
    assert keys(gate, b"t") == keys(gate, b"d") == keys(gate, b"u") == []
    ledger = gate.log.records(TopicPartition(gate.topics.ledger, 0))
    assert sum(record.value is None for record in ledger) == 6_000


def test_a_busy_partition_deletes_as_much_as_it_adds() -> None:
    gate = driver()
    gate.signal("r", "opened", signal_id="s-1")
    for _ in range(12):
        for number in range(1_000):
            gate.append(Kind.SIGNAL, b"r", _signal(gate, "aired", f"{gate.now_ms}-{number}"))
        gate.advance(milliseconds=KEEP_MS // 4)
        gate.run()
    assert len(keys(gate, b"d")) == len(keys(gate, b"u")) <= 6_000
    assert len(reminded(gate)) == 2 * len(keys(gate, b"d"))


def test_transactions_of_one_millisecond_take_no_reminder_from_each_other() -> None:
    gate = driver()
    for number in range(3):
        gate.signal("r", "opened", signal_id=f"o-{number}")
        for kind in range(2):
            gate.append(Kind.SIGNAL, b"r", _signal(gate, "aired", f"a-{number}-{kind}"))
        gate.signal("r", "closed", signal_id=f"c-{number}")
    remembered = {key for prefix in (b"d", b"u", b"x") for key in keys(gate, prefix)}
    assert remembered == set(reminded(gate))
    gate.advance(milliseconds=KEEP_MS + 1)
    assert keys(gate, b"s") == keys(gate, b"t") == keys(gate, b"d") == keys(gate, b"u") == keys(gate, b"x") == []


def test_an_aborted_transaction_deletes_nothing_and_hides_nothing() -> None:
    gate = driver()
    gate.signal("r", "aired", signal_id="s-1")
    task, later = gate.task(), gate.now_ms + KEEP_MS + 1
    deletions = [record.key for record in task.process([], later, later) if record.value is None]
    task.discard()
    task.process([], gate.now_ms, gate.now_ms)
    task.committed({})
    assert [record.key for record in task.process([], later, later) if record.value is None] == deletions != []
