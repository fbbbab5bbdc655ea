"""Changelog and ledger alone restore everything: a restored store decides as the one that was lost."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import replace

import msgspec
import pytest
from hypothesis import given, note
from hypothesis import strategies as st

from placet.definitions import load_definition
from placet.schemas.decision import Outcome, Reason
from placet.schemas.definition.model import parse_definition
from placet.schemas.ledger import Commit, Genesis
from placet.schemas.state import UNSEEN
from placet.streams.errors import LogBehind, LogUnreachable, TaskCorrupted, TaskStopped
from placet.streams.kafka.admin_errors import UnknownTopic
from placet.streams.kafka.cluster import TopicInfo
from placet.streams.records import TopicPartition
from placet.streams.recovery.restore import restore
from placet.streams.recovery.steps import Restored, Steps
from placet.streams.state import layout
from placet.streams.state.store import MemoryStore, StateStore
from placet.streams.topology import control_topic
from placet.testing import TestDriver
from tests.lamp import LAMP, InPieces, job_of
from tests.memory_log import MemoryLog, log_of, restore_at_once
from tests.model.naive import AHEAD_MAX_MS
from tests.property.game import PARTITIONS, Game
from tests.property.recorded import states_of
from tests.property.strategies import HORIZON_MS, as_yaml, definitions, histories, thorough
from tests.unit.verify_history import DEFINITION, history_of

FIRED = layout.ledger_index_key(b"disarmed/")


def copy_of(store: StateStore) -> MemoryStore:
    copy = MemoryStore()
    copy.write(dict(store.scan(b"", b"", 1_000_000)))
    return copy


def memories(store: StateStore, last: Commit) -> list[tuple[bytes, bytes]]:
    """What counts at the last commit: a restore may bring back more, which housekeeping then deletes once more."""
    pairs = store.scan(b"d", b"d", 9_999) + store.scan(b"u", b"u", 9_999)
    pairs = [pair for pair in pairs if not pair[0].startswith(FIRED)]
    return [pair for pair in pairs if layout.log_time_of(pair[1]) >= last.log_time - HORIZON_MS - AHEAD_MAX_MS]


def fired(store: StateStore, form: layout.StateFormat) -> list[bytes]:
    """The timers of which the ledger alone tells that they fired: the entity's last change has them armed."""
    found = []
    for key, value in store.scan(FIRED, FIRED, 9_999):
        state = store.get(layout.state_key(key[len(FIRED) :].rpartition(b"/")[0]))
        if state is not None and layout.is_needed(value, form.load(state)):
            found.append(key)
    return found


# A store that decides as the one that was lost ------------------------------------------------------------------------


@thorough(100)
@given(definitions(), histories(40))
def test_with_only_what_a_cleaner_leaves_it_decides_as_before(rules: dict, history: list[bytes]) -> None:
    """Restarts in between, each from a log compacted as far as allowed; the model judges every decision."""
    note(as_yaml(rules))
    game = Game(rules, compacted=True)
    game.play(history)
    game.restart()
    game.compare_states()


@thorough(100)
@given(definitions(), histories(20), histories(20))
def test_a_store_behind_the_log_catches_up(rules: dict, before: list[bytes], after: list[bytes]) -> None:
    """A crash between the commit and the store's batch, or a store that was away: only the tail is read."""
    note(as_yaml(rules))
    game = Game(rules)
    game.play(before)
    stores = [copy_of(game.driver.task(number).store) for number in range(PARTITIONS)]
    game.play(after)
    for partition, store in enumerate(stores):
        job, task = job_of(game.driver, partition, PARTITIONS, store), game.driver.task(partition)
        restored = restore_at_once(job, log_of(game.driver))
        assert restored.positions == task.positions
        assert states_of(store, job.form) == states_of(task.store, job.form)
        assert restored.last is None or memories(store, restored.last) == memories(task.store, restored.last)
        assert fired(store, job.form) == fired(task.store, job.form)
        assert store.get(layout.COMMIT) == task.store.get(layout.COMMIT)


@thorough(100)
@given(definitions(), histories(20), st.integers(1, 7))
def test_in_pieces_it_restores_the_same(rules: dict, history: list[bytes], size: int) -> None:
    note(as_yaml(rules))
    game = Game(rules)
    game.play(history)
    for partition in range(PARTITIONS):
        whole, pieces = MemoryStore(), MemoryStore()
        first = restore_at_once(job_of(game.driver, partition, PARTITIONS, whole), log_of(game.driver))
        second = restore_at_once(job_of(game.driver, partition, PARTITIONS, pieces), InPieces(game.driver, size))
        assert first == second
        assert whole.scan(b"", b"", 9_999) == pieces.scan(b"", b"", 9_999)


@thorough(100)
@given(definitions(), histories(40), st.integers(1, 7), st.integers(1, 40))
def test_given_up_and_begun_again_it_restores_the_same(
    rules: dict, history: list[bytes], size: int, steps: int
) -> None:
    """The second one reads the ledger from its beginning again, into a store that has all of the changelog."""
    note(as_yaml(rules))
    game = Game(rules)
    game.play(history)
    for partition in range(PARTITIONS):
        store, task = MemoryStore(), game.driver.task(partition)
        job, log = job_of(game.driver, partition, PARTITIONS, store), InPieces(game.driver, size)
        given_up = restore(job, log)
        for _ in zip(range(steps), given_up, strict=False):
            log.poll()
        given_up.close()
        restored = restore_at_once(job, InPieces(game.driver, size))
        assert states_of(store, job.form) == states_of(task.store, job.form)
        assert restored.last is None or memories(store, restored.last) == memories(task.store, restored.last)
        assert fired(store, job.form) == fired(task.store, job.form)


# Logs that contradict themselves --------------------------------------------------------------------------------------


@pytest.fixture
def gate() -> TestDriver:
    gate = TestDriver.from_text(LAMP)
    gate.signal("l", "installed", signal_id="s-1")
    gate.signal("l", "changed", {"watts": 7}, signal_id="s-2")
    gate.signal("l", "changed", {"watts": 7}, signal_id="s-3")
    return gate


def restored(
    gate: TestDriver, store: MemoryStore | None = None, log: MemoryLog | None = None, **other: object
) -> Restored:
    job = job_of(gate, 0, 1, store or MemoryStore())
    return restore_at_once(replace(job, **other), log or log_of(gate))  # type: ignore[arg-type]


def ledger(gate: TestDriver) -> TopicPartition:
    return TopicPartition(gate.topics.ledger, 0)


def test_a_fresh_task_starts_at_the_first_inputs_with_a_genesis() -> None:
    gate = TestDriver.from_text(LAMP)
    found = restored(gate)
    assert (found.last, found.records) == (None, 0)
    assert found.positions == dict.fromkeys(gate.topics.inputs, 0)
    assert found.genesis is not None
    assert (found.genesis.partitions, found.genesis.memory_since) == (1, 0)


def test_a_restored_task_goes_on_where_the_ledger_says(gate: TestDriver) -> None:
    found = restored(gate)
    assert found.last is not None
    assert (found.last.sequence, found.genesis, found.warning) == (3, None, "")
    assert found.positions == {gate.topics.signals: 3, gate.topics.proposals: 0}


def test_a_store_of_other_topics_is_set_aside(gate: TestDriver) -> None:
    store = MemoryStore()
    restored(gate, store)
    with pytest.raises(TaskCorrupted, match="other topics"):
        restored(gate, store, topic_ids=dict.fromkeys(gate.topics, "new"))


def test_a_store_ahead_of_the_log_is_set_aside(gate: TestDriver) -> None:
    store = MemoryStore()
    restored(gate, store)
    store.write(layout.position_writes({gate.topics.changelog: 99}))
    with pytest.raises(TaskCorrupted, match="99"):
        restored(gate, store)


def test_a_store_that_was_away_for_too_long_is_set_aside(gate: TestDriver) -> None:
    store = MemoryStore()
    restored(gate, store)
    gate.advance(hours=13)
    for number in range(3):
        gate.signal("l", "changed", {"watts": number}, signal_id=f"t-{number}")
    with pytest.raises(TaskCorrupted, match="13 h"):
        restored(gate, store, now_ms=gate.now_ms)


def test_a_restore_that_was_given_up_too_long_ago_is_begun_anew(gate: TestDriver) -> None:
    """What it had copied may be deleted since, and the tombstone gone; it has met no commit that tells the time."""
    store = MemoryStore()
    steps = restore(job_of(gate, 0, 1, store), InPieces(gate, 1))
    while not next(steps).read:
        pass
    steps.close()
    gate.advance(hours=11)
    gate.signal("l", "changed", {"watts": 8}, signal_id="s-4")
    kept = copy_of(store)
    assert restored(gate, kept, now_ms=gate.now_ms).last is not None, "not long ago: it goes on"
    gate.advance(hours=2)
    gate.signal("l", "changed", {"watts": 9}, signal_id="s-5")
    with pytest.raises(TaskCorrupted, match="13 h"):
        restored(gate, store, now_ms=gate.now_ms)


def test_a_restore_that_stood_still_for_too_long_is_begun_anew(gate: TestDriver) -> None:
    """A machine that sleeps amid a restore: what was read before may be deleted since, and the tombstone gone."""
    store, hours = MemoryStore(), [0]
    job = replace(job_of(gate, 0, 1, store), clock_ms=lambda: gate.now_ms + hours[0] * 3_600_000)
    steps = restore(job, InPieces(gate, 1))
    while not next(steps).read:
        pass
    hours[0] = 11
    next(steps)
    hours[0] = 13
    with pytest.raises(TaskCorrupted, match="took 13 h: tombstones may be gone"):
        list(steps)
    assert store.get(layout.COMMIT) is None, "it does not count for whole"


def test_topics_created_anew_stop_the_task(gate: TestDriver) -> None:
    ids = {**gate.entity_type.topic_ids, gate.topics.changelog: "another"}
    with pytest.raises(TaskStopped, match="created anew"):
        restored(gate, topic_ids=ids)


CONTROL = control_topic("test")


def test_a_genesis_names_the_control_topic_and_one_of_before_does_not(gate: TestDriver) -> None:
    fresh = restored(TestDriver.from_text(LAMP)).genesis
    assert fresh is not None
    assert fresh.topic_ids.keys() == {*gate.topics, CONTROL}
    ids = dict(gate.entity_type.topic_ids)
    with pytest.raises(TaskStopped, match="control was created anew: id another, the ledger knows topic"):
        restored(gate, topic_ids={**ids, CONTROL: "another"})
    log = log_of(gate)
    records = log.records(ledger(gate))
    index = next(i for i, record in enumerate(records) if record.key == b"genesis")
    genesis = gate.codec.decode_ledger(records[index].value or b"")
    assert isinstance(genesis, Genesis)
    before = msgspec.structs.replace(genesis, topic_ids={topic: ids[topic] for topic in gate.topics})
    records[index] = records[index]._replace(value=gate.codec.encode_ledger(before))
    log.put(ledger(gate), records, log.end(ledger(gate)))
    assert restored(gate, log=log, topic_ids={**ids, CONTROL: "another"}).last is not None


def test_a_store_of_a_release_without_the_control_topics_id_is_gone_on_with(gate: TestDriver) -> None:
    store, ids = MemoryStore(), dict(gate.entity_type.topic_ids)
    restored(gate, store)
    now = store.get(layout.STAMP) or b""
    stamp = msgspec.json.decode(now)
    del stamp["topic_ids"][CONTROL]
    store.write({layout.STAMP: msgspec.json.encode(stamp)})
    assert restored(gate, store).records == 0, "nothing is read again"
    assert store.get(layout.STAMP) == now
    with pytest.raises(TaskCorrupted, match="other topics"):
        restored(gate, store, topic_ids={**ids, CONTROL: "another"})


def test_rules_that_are_not_on_the_control_topic_any_more_are_not_waited_for(gate: TestDriver) -> None:
    """A deposed leader may not know them either: so it is asked again for a while."""
    log, control = log_of(gate), TopicPartition(CONTROL, 0)
    job: dict[str, object] = {"control": control, "rules_read": lambda _position: False}
    with pytest.raises(LogBehind, match=r"test\.control ends at 0, and rules were read up to 1"):
        restored(gate, log=log, **job)


@pytest.mark.parametrize("role", ["changelog", "ledger"])
def test_a_log_that_lost_its_beginning_stops_the_task(gate: TestDriver, role: str) -> None:
    log, topic = log_of(gate), getattr(gate.topics, role)
    log.start_offsets = lambda partitions: {at: 2 * (at.topic == topic) for at in partitions}  # type: ignore[method-assign]
    with pytest.raises(TaskStopped, match=f"{role} partition 0 begins at offset 2"):
        restored(gate, log=log)


def test_a_topic_that_no_broker_knows_stops_the_task_after_a_while(gate: TestDriver) -> None:
    log, answer = log_of(gate), Future[TopicInfo]()
    answer.set_exception(UnknownTopic("describe topic"))
    log.ask_topics = lambda _topics: {gate.topics.decisions: answer}  # type: ignore[method-assign]
    with pytest.raises(LogBehind, match="decisions is gone"):
        restored(gate, log=log)


def test_another_number_of_partitions_stops_the_task(gate: TestDriver) -> None:
    with pytest.raises(TaskStopped, match="partitions"):
        restored(gate, partitions=2)


def test_a_topic_that_is_made_anew_while_the_gate_runs_stops_the_task(gate: TestDriver) -> None:
    """Its end lies below the store's position: that must not count for a store that is ahead of the log."""
    store, log = MemoryStore(), log_of(gate)
    restored(gate, store)
    before, now = copy_of(store), Future[TopicInfo]()
    now.set_result(TopicInfo("another", 1, 1, {}))
    log.ask_topics = lambda _topics: {gate.topics.changelog: now}  # type: ignore[method-assign]
    log.put(TopicPartition(gate.topics.changelog, 0), [], 0)
    with pytest.raises(TaskStopped, match="changelog was created anew: id another, this gate knows topic"):
        restored(gate, store, log=log)
    assert store.scan(b"", b"", 99) == before.scan(b"", b"", 99)


def test_a_store_of_fewer_partitions_is_set_aside_so_that_the_genesis_is_read(gate: TestDriver) -> None:
    store = MemoryStore()
    restored(gate, store)
    with pytest.raises(TaskCorrupted, match="other topics"):
        restored(gate, store, partitions=2)


def test_a_position_that_someone_else_moved_stops_the_task(gate: TestDriver) -> None:
    log = log_of(gate)
    log.commit({TopicPartition(gate.topics.signals, 0): 1})
    with pytest.raises(TaskStopped, match="someone else moved it"):
        restored(gate, log=log)


def test_a_position_that_moves_while_the_ledger_is_read_is_another_gates_work(gate: TestDriver) -> None:
    """A gate that was frozen restores what it has lost meanwhile. It asks again, until it hears of that."""
    log, early = log_of(gate), Future[dict[TopicPartition, int | None] | None]()
    early.set_result({TopicPartition(topic, 0): 1 for topic in gate.topics.inputs})
    answers, ask = [early], log.ask_committed
    log.ask_committed = lambda asked: answers.pop() if answers else ask(asked)  # type: ignore[method-assign]
    with pytest.raises(LogUnreachable, match="another gate decides here"):
        restored(gate, log=log)
    assert restored(gate, log=log).positions == {gate.topics.signals: 3, gate.topics.proposals: 0}


def test_a_tombstone_that_had_its_time_is_no_lost_change(gate: TestDriver) -> None:
    """The last change was the deletion of an entity; only what was aborted lies behind its tombstone, which is gone."""
    log, at = log_of(gate), TopicPartition(gate.topics.changelog, 0)
    records, end = log.records(at), log.end(at)
    log.put(at, records[:-1], end + 3)
    day_later = gate.now_ms + 25 * 3_600_000
    assert restored(gate, log=log, now_ms=day_later).last is not None
    with pytest.raises(LogBehind, match="are they lost"):
        restored(gate, log=log, now_ms=gate.now_ms)
    log.put(at, records[:-1], records[-2].offset + 2)
    with pytest.raises(LogBehind, match="are they lost"):
        restored(gate, log=log, now_ms=day_later)


def test_a_restore_behind_such_a_tombstone_may_be_given_up_anywhere(gate: TestDriver) -> None:
    """The next one can't tell from its part whether changes are lost: it begins from the start."""
    log, at = log_of(gate), TopicPartition(gate.topics.changelog, 0)
    log.put(at, log.records(at)[:-1], log.end(at) + 3)
    day_later = gate.now_ms + 25 * 3_600_000

    def steps(store: MemoryStore) -> Steps[Restored]:
        job = replace(job_of(gate, 0, 1, store), now_ms=day_later, clock_ms=lambda: day_later)
        return restore(job, InPieces(gate, 1, log))

    for given_up in range(1, len(list(steps(MemoryStore())))):
        store = MemoryStore()
        first = steps(store)
        for _ in range(given_up):
            next(first)
        first.close()
        try:
            list(steps(store))
        except TaskCorrupted:  # set aside
            list(steps(MemoryStore()))


@pytest.mark.parametrize(("role", "says"), [("changelog", "are they lost"), ("ledger", "is its commit lost")])
@pytest.mark.parametrize("before", ["nothing", "a change", "a change, and a restore"])
def test_what_a_deposed_leader_calls_the_end_is_asked_again(role: str, says: str, before: str) -> None:
    """The store would lack what others have written since: with the next answer, the same store is whole."""
    gate, store = TestDriver.from_text(LAMP), MemoryStore()
    if before == "nothing":
        gate.signal("m", "changed", {"watts": 6}, signal_id="s-0")  # refused: a commit without changes
    else:
        gate.signal("l", "installed", signal_id="s-1")
    if "restore" in before:
        restored(gate, store)
    at = TopicPartition(getattr(gate.topics, role), 0)
    former = log_of(gate)
    gate.signal("l", "installed" if before == "nothing" else "changed", None if before == "nothing" else {"watts": 7},
                signal_id="s-2")  # fmt: skip
    log, stale = log_of(gate), log_of(gate)
    stale.put(at, former.records(at), former.end(at))
    stale._positions.clear()  # the group tells nothing: what is left are the two topics
    for _ in range(2):
        with pytest.raises(LogBehind, match=says):
            restored(gate, store, log=stale)
    found = restored(gate, store, log=log)
    assert found.last is not None
    assert found.last.sequence == 2
    form = job_of(gate, 0, 1, store).form
    assert states_of(store, form) == states_of(gate.task().store, form)


def test_a_lost_ledger_stops_the_task(gate: TestDriver) -> None:
    log = log_of(gate)
    log.put(ledger(gate), [], 0)
    with pytest.raises(TaskStopped, match="the ledger is empty"):
        restored(gate, log=log)


def test_a_ledger_that_lost_its_genesis_stops_the_task(gate: TestDriver) -> None:
    log = log_of(gate)
    kept = [record for record in log.records(ledger(gate)) if record.key != b"genesis"]
    log.put(ledger(gate), kept, log.end(ledger(gate)))
    with pytest.raises(TaskStopped, match="genesis"):
        restored(gate, log=log)


@pytest.mark.parametrize(
    "change",
    [{"previous": b"x" * 16}, {"spans": ()}, {"sequence": 1}, {"task_epoch": 0}, {"ladder": 2}],
    ids=["digest", "spans", "sequence", "epoch", "ladder"],
)
def test_commits_that_do_not_link_stop_the_task(gate: TestDriver, change: dict[str, object]) -> None:
    log = log_of(gate)
    records = log.records(ledger(gate))
    index = max(i for i, record in enumerate(records) if record.key == b"commit")
    commit = gate.codec.decode_ledger(records[index].value or b"")
    assert isinstance(commit, Commit)
    if change == {"spans": ()}:
        change = {"spans": tuple(span._replace(start=span.start + 1) for span in commit.spans)}
    forged = msgspec.structs.replace(commit, **change)
    records[index] = records[index]._replace(value=gate.codec.encode_ledger(forged))
    log.put(ledger(gate), records, log.end(ledger(gate)))
    with pytest.raises(TaskStopped, match=r"ledger at offset \d+"):
        restored(gate, log=log)


def test_inputs_that_were_removed_before_they_were_decided_stop_the_task(gate: TestDriver) -> None:
    log = log_of(gate)
    log.start_offsets = lambda partitions: {  # type: ignore[method-assign]
        place: 9 if place.topic == gate.topics.signals else 0 for place in partitions
    }
    with pytest.raises(TaskStopped, match="3 to 8 were removed"):
        restored(gate, log=log)


# New rules ------------------------------------------------------------------------------------------------------------


def test_a_new_version_of_the_rules_goes_on_with_the_old_state(gate: TestDriver) -> None:
    text = LAMP.replace("version: 1", "version: 2").replace(
        "fields: {watts: {type: int, default: 5}}",
        "fields: {watts: {type: int, default: 5}, room: string | null, dimmed: {type: boolean, default: true}}",
    )
    gate.restart(parse_definition(text))
    assert gate.read("l").fields == {"watts": 7, "room": None, "dimmed": True}
    assert gate.signal("l", "changed", {"watts": 7}, signal_id="s-3").reason is Reason.REPEATED
    changed = gate.signal("l", "changed", {"watts": 9}, signal_id="s-4")
    assert (changed.outcome, changed.version_after) == (Outcome.ACCEPTED, 3)
    assert [at.definition_digest for _, at in gate.decided][-3] != gate.machine.digest
    assert gate.decided[-1].at.definition_digest == gate.machine.digest


# What no gate wrote ---------------------------------------------------------------------------------------------------

FOREIGN = b"\xc3\x01" + b"\x11" * 8 + b"later"


def test_a_foreign_change_is_named_by_entity_and_place_when_it_is_needed(gate: TestDriver) -> None:
    changelog = TopicPartition(gate.topics.changelog, 0)
    offset = gate.log.append(changelog, gate.now_ms, b"m", FOREIGN, [("other", None)])  # type: ignore[list-item]
    gate.restart()
    gate.signal("l", "changed", {"watts": 1}, signal_id="o-1")
    with pytest.raises(TaskStopped, match=rf"changelog partition 0: 'm' can't be read: at offset {offset}: nobody"):
        gate.signal("m", "changed", {"watts": 1}, signal_id="o-2")


def test_a_foreign_change_that_the_ledger_needs_stops_the_restore_by_place(gate: TestDriver) -> None:
    offset = gate.log.append(TopicPartition(gate.topics.changelog, 0), gate.now_ms, b"l", FOREIGN)
    with pytest.raises(TaskStopped, match=rf"changelog partition 0: 'l' can't be read: at offset {offset}: nobody"):
        gate.restart()


def test_a_foreign_header_stops_the_restore_by_place(gate: TestDriver) -> None:
    changelog = TopicPartition(gate.topics.changelog, 0)
    offset = gate.log.append(changelog, gate.now_ms, b"l", FOREIGN, [(layout.MEMORY_HEADER, b"")])
    with pytest.raises(TaskStopped, match=rf"changelog partition 0: the record 'l' at offset {offset} can't be read"):
        gate.restart()


def test_a_foreign_ledger_entry_stops_the_restore_by_place(gate: TestDriver) -> None:
    ledger = TopicPartition(gate.topics.ledger, 0)
    offset = gate.log.append(ledger, gate.now_ms, b"later/thing", FOREIGN)
    with pytest.raises(TaskStopped, match=rf"ledger partition 0: the record 'later/thing' at offset {offset} can't"):
        gate.restart()


# A copy of a changelog, and nothing else ------------------------------------------------------------------------------


def on_a_copy(gate: TestDriver) -> TestDriver:
    """Another cluster's gate: of the one before it has the changelog, in topics that are new."""
    other = TestDriver(gate.definition, partitions=gate.partitions, start_ms=gate.now_ms)
    for number in range(gate.partitions):
        place = TopicPartition(gate.topics.changelog, number)
        for record in gate.log.records(place):
            other.log.append(place, other.now_ms, record.key, record.value, record.headers)
    other.restart()
    return other


def test_a_gate_goes_on_behind_a_copy_of_a_changelog(gate: TestDriver) -> None:
    """States, versions and the memory of changes are there, and transactions are counted on."""
    other = on_a_copy(gate)
    found, before = other.read("l"), gate.read("l")
    assert (found.version, found.incarnation, found.fields) == (before.version, before.incarnation, before.fields)
    assert other.signal("l", "changed", {"watts": 7}, signal_id="s-2").reason is Reason.REPEATED
    assert other.signal("l", "changed", {"watts": 8}, signal_id="s-4").version_after == gate.read("l").version + 1
    first, *later = [entry for entry in other.ledger if isinstance(entry, Commit)]
    assert (first.decisions, first.spans[0].end) == (0, 0), "before an input comes it is known what the ledger is"
    assert [commit.sequence for commit in (first, *later)] == [3, 4, 5]
    other.restart()
    assert other.signal("l", "changed", {"watts": 8}, signal_id="s-4").reason is Reason.REPEATED
    assert [change.sequence for change in other.changelog if change] == [1, 2, 5]


def test_what_is_decided_behind_a_copy_is_verified() -> None:
    gate = TestDriver(load_definition(DEFINITION))
    gate.signal("order-1", "opened", {"total": 5}, signal_id="opened-1")
    gate.signal("order-1", "added", {"amount": 1}, signal_id="added-1")
    other = on_a_copy(gate)
    assert other.signal("order-1", "added", {"amount": 1}, signal_id="added-1").reason is Reason.REPEATED
    other.signal("order-1", "added", {"amount": 2}, signal_id="added-2")
    other.restart()
    assert other.signal("order-1", "added", {"amount": 2}, signal_id="added-2").reason is Reason.REPEATED
    report = history_of(other).verify()
    assert [str(finding) for finding in report.findings] == []
    assert report.since is not None
    assert (report.since.sequence, other.read("order-1").fields["total"]) == (4, 8)
    assert "a copy of a changelog" in report.since.why


@thorough(50)
@given(definitions(), histories(30))
def test_a_copy_has_the_states_of_every_history(rules: dict, history: list[bytes]) -> None:
    """But for what inputs that changed nothing left: that stood in the ledger."""
    note(as_yaml(rules))
    game = Game(rules)
    game.play(history)
    other = on_a_copy(game.driver)
    changed = {change.entity_id: change.state for change in game.driver.changelog if change}
    forgotten = {entity for entity in changed if game.driver.read(entity) == UNSEEN}
    for entity, state in changed.items():
        found = other.read(entity)
        expected = UNSEEN if entity in forgotten else state
        assert (found.status, found.version, found.incarnation) == (
            expected.status, expected.version, expected.incarnation,
        )  # fmt: skip
        assert found.field_versions == expected.field_versions
    other.restart()


def only_the_changelog_of(gate: TestDriver) -> MemoryLog:
    log = log_of(gate)
    for topic in (*gate.topics.inputs, gate.topics.ledger):
        log.put(TopicPartition(topic, 0), [], 0)
    log._positions.clear()
    return log


def test_a_restore_of_a_copy_may_be_given_up_anywhere(gate: TestDriver) -> None:
    log = only_the_changelog_of(gate)

    def steps(store: MemoryStore) -> Steps[Restored]:
        return restore(job_of(gate, 0, 1, store), InPieces(gate, 1, log))

    for given_up in range(1, len(list(steps(MemoryStore())))):
        store = MemoryStore()
        first = steps(store)
        for _ in range(given_up):
            next(first)
        first.close()
        found = restored(gate, store, log)
        assert found.last is not None
        assert (found.last.sequence, found.positions) == (2, dict.fromkeys(gate.topics.inputs, 0))
        assert found.genesis is not None
        assert "its changelog is a copy, up to transaction 2" in found.warning


@pytest.mark.parametrize("there", ["an input", "a record of other rules"])
def test_a_changelog_without_its_ledger_is_no_copy_where_there_is_more(gate: TestDriver, there: str) -> None:
    log, signals = only_the_changelog_of(gate), TopicPartition(gate.topics.signals, 0)
    if there == "an input":
        log.append(signals, gate.now_ms, b"l", b"an input")
    else:
        log.append(TopicPartition(gate.topics.changelog, 0), gate.now_ms, b"m", b"\xc3\x01unknown!body", [])
    with pytest.raises(LogBehind, match=r"is its commit lost\? A copy of a changelog is begun behind only while"):
        restored(gate, log=log)
