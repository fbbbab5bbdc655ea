"""Bugs to plant in the gate: each takes away one thing that keeps data safe. The simulation has to find them.

A row is a name, the kind of worlds in which it shows, and how it is planted. Some are what the gate did once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from typing import Any, Final, NamedTuple
from unittest.mock import patch

from confluent_kafka import TopicPartition as ClientPartition

from placet.schemas.ledger import Commit
from placet.streams.errors import TransactionAborted
from placet.streams.kafka.consumer import GroupConsumer
from placet.streams.kafka.overheard_log import OverheardLog
from placet.streams.kafka.transactional_producer import Transaction
from placet.streams.loop.idle import IdleQuestion
from placet.streams.loop.worker import Worker
from placet.streams.records import TopicPartition
from placet.streams.recovery import restore
from placet.streams.recovery.ledger_chain import LedgerChain
from placet.streams.recovery.restore_thread import Restorer
from placet.streams.recovery.steps import RestoreStep
from placet.streams.rules import control
from placet.streams.state.rocksdb import RocksDBStore
from placet.streams.state.store import Writes

__all__ = ["PLANTED", "Planted"]


def _replaced(owner: type, **methods: Any) -> AbstractContextManager[Any]:
    """Replace some methods of a class at once."""
    stack = ExitStack()
    for name, method in methods.items():
        stack.enter_context(patch.object(owner, name, method))
    return stack


class Planted(NamedTuple):
    """A bug: what it is, in which kind of worlds it shows, and how to plant it."""

    name: str
    kind: str
    plant: Callable[[], AbstractContextManager[Any]]


def _metadata_of_nobody() -> AbstractContextManager[Any]:
    return patch.object(GroupConsumer, "metadata_of_this_batch", lambda _self: b"CGMDv2:\xff\xff\xff\xffapp\0\0\0")


def _an_abort_is_taken_for_a_commit() -> AbstractContextManager[Any]:
    commit = Transaction.commit

    def commit_or_not(self: Transaction, positions: Any, metadata: bytes) -> None:
        try:
            commit(self, positions, metadata)
        except TransactionAborted:
            self.committed = True

    return patch.object(Transaction, "commit", commit_or_not)


def _no_restore_after_an_abort() -> AbstractContextManager[Any]:
    def read_again(self: Any, _error: Any) -> None:
        self._read_again()
        self._back_off.pause()

    return patch.object(Worker, "_restore_all", read_again)


def _no_seek_after_an_abort() -> AbstractContextManager[Any]:
    def discard(self: Any, _error: Any) -> None:
        for task in self.tasks.values():
            task.discard()

    return patch.object(Worker, "_restore_all", discard)


def _revoked_tasks_go_on() -> AbstractContextManager[Any]:
    return patch.object(GroupConsumer, "take_revoked", lambda _self: set())


def _a_restore_ends_at_the_first_records() -> AbstractContextManager[Any]:
    def read(log: Any, partition: Any, position: int, target: int, take: Any) -> Iterator[RestoreStep]:
        if position >= target:
            return
        log.start(partition, position)
        try:
            while True:
                records, end = log.take(partition)
                if records or end is not None:
                    yield take(records, max(records[-1].offset + 1 if records else 0, end or 0))
                    return
                yield RestoreStep(waits_for="records")
        finally:
            log.stop(partition)

    return patch.object(restore, "_read", read)


def _log_time_without_the_skew() -> AbstractContextManager[Any]:
    """Log time was once the clock as it is, where inputs of a leader whose clock is behind may still come."""
    ask = IdleQuestion.ask

    def ask_and_trust_the_clock(self: Any, tasks: Any) -> None:
        ask(self, tasks)
        self._asked_ms = self._clock()

    return _replaced(IdleQuestion, ask=ask_and_trust_the_clock, log_time=lambda self, _clock_ms: self._log_time)


def _log_time_by_what_the_client_heard() -> AbstractContextManager[Any]:
    """Idle was once who had no lag, as the client had heard: perhaps in an earlier ownership."""

    def take_idle(self: Any, tasks: Any, _reached: Any) -> Any:
        self._log_time = self._clock()
        return [task.task_id for task in tasks if task.needs_housekeeping(self._clock())]

    return _replaced(IdleQuestion, take_idle=take_idle, log_time=lambda self, _clock_ms: self._log_time)


def _assigned_at_offset_zero() -> AbstractContextManager[Any]:
    """A partition was once given to the client at offset 0 and paused: a fetch may win, and retention was there."""

    def on_assign(self: Any, consumer: Any, partitions: Any) -> None:
        consumer.incremental_assign([ClientPartition(one.topic, one.partition, 0) for one in partitions])
        consumer.pause(partitions)
        found = {TopicPartition(one.topic, one.partition) for one in partitions}
        self.assigned |= found
        self._fetched |= found
        self._paused |= found

    return _replaced(GroupConsumer, _on_assign=on_assign, _noted=lambda *_: False)


def _a_batch_of_any_size() -> AbstractContextManager[Any]:
    """A transaction once took all inputs that were there, whatever the size of the states."""
    begin = Worker.__init__

    def without_limit(self: Any, *parts: Any, **more: Any) -> None:
        begin(self, *parts, **{**more, "bytes_max": 1 << 40})

    return patch.object(Worker, "__init__", without_limit)


def _the_chain_is_not_read() -> AbstractContextManager[Any]:
    """The last commit that a restore meets is forgotten: positions come from the one before."""
    link = LedgerChain._link

    def keep_every_other(self: Any, entry: Commit, offset: int) -> None:
        if entry.sequence % 2:
            link(self, entry, offset)

    return patch.object(LedgerChain, "_link", keep_every_other)


def _a_new_owner_does_not_wait_for_the_rules() -> AbstractContextManager[Any]:
    """And hears of them late: it decides by older rules than the one before it."""
    init = Restorer.__init__

    def made(self: Restorer, *arguments: Any) -> None:
        init(self, *arguments)
        self._rules_position = lambda: 2**62

    stack = ExitStack()
    stack.enter_context(patch.object(Restorer, "__init__", made))
    stack.enter_context(patch.object(control, "_FOLLOW_EVERY_S", 3_600.0))
    return stack


def _a_store_of_any_age() -> AbstractContextManager[Any]:
    return patch.object(restore, "TOMBSTONES_KEPT_MS", 1 << 60)


def _positions_are_stored_first() -> AbstractContextManager[Any]:
    """In a batch of their own, before the values that they cover."""
    write = RocksDBStore.write

    def write_twice(self: Any, writes: Writes) -> None:
        positions = {key: value for key, value in writes.items() if key.startswith(b"m")}
        if positions and len(positions) < len(writes):
            write(self, positions)
        write(self, writes)

    return patch.object(RocksDBStore, "write", write_twice)


def _nobody_listens_to_the_log() -> AbstractContextManager[Any]:
    return patch.object(OverheardLog, "log", lambda *_: None)


PLANTED: Final = (
    Planted("metadata that names nobody", "standard", _metadata_of_nobody),
    Planted("an abort is taken for a commit", "standard", _an_abort_is_taken_for_a_commit),
    Planted("no restore after an abort", "standard", _no_restore_after_an_abort),
    Planted("no seek after an abort", "standard", _no_seek_after_an_abort),
    Planted("revoked tasks go on", "standard", _revoked_tasks_go_on),
    Planted("a restore ends at the first records", "standard", _a_restore_ends_at_the_first_records),
    Planted("log time without the skew", "standard", _log_time_without_the_skew),
    Planted("log time by what the client heard", "standard", _log_time_by_what_the_client_heard),
    Planted("assigned at offset zero", "standard", _assigned_at_offset_zero),
    Planted("a batch of any size", "large", _a_batch_of_any_size),
    Planted("the chain is not read", "standard", _the_chain_is_not_read),
    Planted("a new owner does not wait for the rules", "rolling", _a_new_owner_does_not_wait_for_the_rules),
    Planted("a store of any age is gone on with", "standard", _a_store_of_any_age),
    Planted("positions are stored before the values", "standard", _positions_are_stored_first),
    Planted("a closed connection is no reason", "standard", _nobody_listens_to_the_log),
)
"""Bugs; those that a simulation can find."""
