"""The loop's real `Worker` and tasks on a log in memory, amid everything that can go wrong around them, by dice."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from itertools import count
from threading import Event
from types import SimpleNamespace
from typing import Any, Final, cast
from unittest.mock import MagicMock

from placet.streams.errors import LogUnreachable, TaskMigrated, TaskStopped, TransactionAborted
from placet.streams.kafka.schema_registry import SchemaTexts
from placet.streams.loop.broker_clocks import BrokerClocks
from placet.streams.loop.idle import IdleQuestion
from placet.streams.loop.rules_in_force import RulesInForce
from placet.streams.loop.unknown_schemas import SchemaQuestion
from placet.streams.loop.worker import Worker
from placet.streams.records import ConsumerRecord, ProducerRecord, TopicPartition
from placet.streams.recovery.restore_thread import Job, RestoreResult
from placet.streams.recovery.steps import Restoration
from placet.streams.rules.rulebook import Rulebook
from placet.streams.state.layout import StateFormat
from placet.streams.state.store import MemoryStore, StoreDamaged, Writes
from placet.streams.topology import TaskId
from placet.testing import TestDriver
from tests.memory_log import log_of, restore_at_once
from tests.property.strategies import Dice
from tests.staged import StagedHost

__all__ = ["PARTITIONS", "LoopWorld"]

PARTITIONS: Final = 2
_POLLS_MAX: Final = 3_000


class NoWait(Event):
    """An event that is never waited for."""

    def wait(self, _timeout: float | None = None) -> bool:
        return self.is_set()


class Fragile(MemoryStore):
    """A store that turns out to be damaged at a moment that the dice choose."""

    def __init__(self, breaks: Callable[[], bool]) -> None:
        super().__init__()
        self._breaks = breaks

    def _meet_damage(self) -> None:
        if self._breaks():
            raise StoreDamaged("0: Corruption: block checksum mismatch")

    def copy(self) -> MemoryStore:
        """A sound store with the same values."""
        copy = MemoryStore()
        copy.write(dict(super().scan(b"", b"", 1_000_000)))
        return copy

    def get(self, key: bytes) -> bytes | None:
        self._meet_damage()
        return super().get(key)

    def write(self, writes: Writes) -> None:
        self._meet_damage()
        super().write(writes)

    def scan(self, prefix: bytes, start: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        self._meet_damage()
        return super().scan(prefix, start, limit)


class LoopWorld:
    """Brokers, group, producer, restorer and stores for one worker.

    Args:
        driver: has the inputs on its log.
        dice: what happens when; once they are used up nothing goes wrong any more.
        bytes_max: of one transaction.
        records_max: of one poll.
    """

    def __init__(self, driver: TestDriver, dice: Dice, *, bytes_max: int, records_max: int = 7) -> None:
        self.driver = driver
        self.log = log_of(driver)
        self.dice = dice
        self.happened: list[str] = []
        self.stopping = NoWait()
        self.inputs = [TopicPartition(topic, n) for topic in driver.topics.inputs for n in range(PARTITIONS)]
        self.stores: dict[TaskId, Fragile] = {}
        self.kind = driver.entity_type
        control = SimpleNamespace(position=1, follow=list, close=lambda: None, rulebook=Rulebook("control"))
        host = StagedHost(now_ms=lambda: driver.now_ms)
        rules = RulesInForce(
            {driver.machine.entity: self.kind}, cast("Any", control), MagicMock(), MagicMock(), lambda: 0.0
        )
        clocks = BrokerClocks(lambda _topics: {}, lambda: driver.now_ms, host.monotonic_s, 0)
        self.worker = Worker(
            rules, lambda: cast("Any", Member(self)), cast("Any", Producer(self)),
            cast("Any", Restorer(self)), host, MagicMock(), self.stopping,
            IdleQuestion(self, clocks, host.monotonic_s),
            SchemaQuestion(at_once(), cast("Any", control), self.ask_control_end, SchemaTexts(None), MagicMock()),
            MagicMock(),
            records_max=records_max, poll_timeout_ms=1, namesake=MagicMock(), retention_ms=604_800_000,
            bytes_max=bytes_max,
        )  # fmt: skip

    def run(self) -> None:
        """Let the worker run until every input is decided, whatever happens."""
        self.worker.run()
        assert self.all_decided()

    def all_decided(self) -> bool:
        log = self.log
        committed, ends = log.committed(self.inputs), log.end_offsets(self.inputs)
        return all((committed[partition] or 0) == ends[partition] for partition in self.inputs)

    def ask_control_end(self) -> Future[int]:
        """Ask for the end of the control topic; its leader may not answer."""
        answer: Future[int] = Future()
        if self.happens("the control topic's leader does not answer", 3):
            answer.set_exception(LogUnreachable("its leader does not answer"))
        else:
            answer.set_result(1)
        return answer

    def ask_starts(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, Future[int]]:
        return answered(self.log.start_offsets(list(partitions)))

    def ask_ends(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, Future[int]]:
        return answered(self.log.end_offsets(list(partitions)))

    def ask_newest(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, Future[int]]:
        return answered({at: end - 1 for at, end in self.log.end_offsets(list(partitions)).items()})

    def happens(self, what: str, once_in: int) -> bool:
        """Throw dice."""
        if self.dice.pick(range(256)) % once_in != 1:
            return False
        self.happened.append(what)
        return True

    def restored(self, task_id: TaskId, store: MemoryStore) -> Any:
        driver = self.driver
        form = StateFormat(driver.codec, driver.machine.decimal_fields)
        job = Restoration(
            task_id, driver.topics, self.kind.topic_ids, PARTITIONS, driver.codec, form, store, driver.now_ms
        )
        return restore_at_once(job, self.log)


def at_once() -> StagedHost:
    """A machine on which work is done as soon as it is spawned, and a second goes by with each look at the clock."""
    return StagedHost(spawn=lambda _name, work: work(), monotonic_s=map(float, count()).__next__)


def answered(values: Mapping[TopicPartition, int]) -> dict[TopicPartition, Future[int]]:
    answers: dict[TopicPartition, Future[int]] = {partition: Future() for partition in values}
    for partition, value in values.items():
        answers[partition].set_result(value)
    return answers


class Member:
    """A `GroupConsumer` whose partitions come and go."""

    def __init__(self, world: LoopWorld) -> None:
        self.world = world
        self.assigned = set(world.inputs)
        self.joined = True
        self._flowing: dict[TopicPartition, int] = {}
        self._revoked: set[TopicPartition] = set()
        self._polls = 0

    def poll_batch(self, records_max: int, _timeout_ms: int) -> list[ConsumerRecord]:
        world = self.world
        self._polls += 1
        assert self._polls < _POLLS_MAX, "it never ends"
        if world.all_decided():
            world.stopping.set()
        if world.happens("migrated", 40):
            raise TaskMigrated("polling failed")
        if world.happens("revoked", 30):
            number = world.dice.pick(range(PARTITIONS))
            gone = {partition for partition in self.assigned if partition.partition == number}
            self._revoked |= gone
            for partition in gone:
                self._flowing.pop(partition, None)
            if not world.dice.pick((0, 1)):  # else they come back with a later poll
                self.assigned -= gone
        elif self.assigned != set(world.inputs) and world.dice.pick((1, 0)):
            self.assigned = set(world.inputs)
        records: list[ConsumerRecord] = []
        for partition, position in list(self._flowing.items()):
            # Some may come again: what an earlier seek left in the client's queue.
            begin = max(0, position - 3) if world.happens("repeated", 10) else position
            run = world.log.records(partition, begin)[: world.dice.pick((records_max, 1, 0, 3))]
            run = run[: records_max - len(records)]
            records += run
            self._flowing[partition] = max(begin + len(run), position)
        return records

    def metadata_of_this_batch(self) -> bytes:
        if self.world.happens("no member", 40):
            raise TaskMigrated("not a member of the group at the moment")
        return b"metadata"

    def take_revoked(self) -> set[TopicPartition]:
        revoked, self._revoked = self._revoked, set()
        return revoked

    def start(self, positions: Mapping[TopicPartition, int]) -> None:
        if self.world.happens("can't seek", 40):
            raise TaskMigrated("can't seek: it is not ours any more")
        self._flowing.update({at: position for at, position in positions.items() if at in self.assigned})

    def pause(self, partitions: list[TopicPartition]) -> None:
        for partition in partitions:
            self._flowing.pop(partition, None)

    def lag(self, positions: Mapping[TopicPartition, int]) -> dict[tuple[str, int], int]:
        ends = self.world.log.end_offsets(list(positions))
        return {at: ends[at] - position for at, position in positions.items()}

    def reached(self, _partition: TopicPartition, position: int) -> int:
        return position

    def take_out_of_range(self) -> list[TopicPartition]:
        return []

    def member_id(self) -> str:
        return "me"

    def close_in_time(self, _timeout_s: float) -> None:
        pass


class Producer:
    """A `TransactionalProducer` whose transactions fail before the commit, or after it without a word of it."""

    def __init__(self, world: LoopWorld) -> None:
        self._world = world

    def start(self) -> None:
        pass

    serve = abandon = start

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        yield Transaction(self._world)


class Transaction:
    """All of it reaches the log, or nothing."""

    def __init__(self, world: LoopWorld) -> None:
        self._world = world
        self._records: list[ProducerRecord] = []
        self.written: dict[TopicPartition, int] = {}
        self.stamped: dict[TopicPartition, tuple[int, float]] = {}

    def send(self, records: list[ProducerRecord]) -> None:
        self._records += records

    def commit(self, positions: Mapping[TopicPartition, int], _metadata: bytes) -> None:
        world, log = self._world, self._world.log
        if world.happens("aborted", 12):
            raise TransactionAborted("it did not commit")
        for topic, partition, key, value, headers in self._records:
            place = TopicPartition(topic, max(partition, 0))
            self.written[place] = log.append(place, world.driver.now_ms, key, value, headers) + 1
        log.commit(positions)
        if world.happens("nobody knows", 12):
            raise TransactionAborted("no answer to the commit")


class Restorer:
    """Restores at once; results may be handed over late."""

    def __init__(self, world: LoopWorld) -> None:
        self._world = world
        self._done: list[RestoreResult] = []
        self._fragile = True

    def submit(self, job: Job) -> None:
        world, task_id = self._world, job.task_id
        if job.damage or task_id not in world.stores:
            world.stores[task_id] = Fragile(lambda: self._fragile and world.happens("damaged", 60))
        self._fragile = False
        try:
            restored = world.restored(task_id, world.stores[task_id])
        except TaskStopped as error:
            self._done.append(RestoreResult(job, None, None, error))
        else:
            self._done.append(RestoreResult(job, restored, world.stores[task_id]))
        self._fragile = True

    def take_done(self) -> RestoreResult | None:
        self._done = [outcome for outcome in self._done if not outcome.job.cancelled]
        if not self._done or self._world.happens("late", 3):
            return None
        return self._done.pop(0)

    def take_set_aside(self) -> list[Any]:
        return []

    def close(self) -> None:
        pass
