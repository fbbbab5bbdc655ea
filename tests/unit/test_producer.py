"""A transaction's records: none lost or reordered where the client's queue is full, none before its time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from logging import getLogger
from threading import Event
from time import monotonic
from typing import Any, cast

import pytest
from confluent_kafka import KafkaError, KafkaException

from placet.streams.errors import ClockSkew, ProducerFenced, TransactionAborted
from placet.streams.host import LocalHost
from placet.streams.kafka.transactional_producer import Transaction, TransactionalProducer
from placet.streams.records import ProducerRecord, TopicPartition
from tests.staged import StagedHost


class FullProducer:
    """A client whose queue has room for two records until it is polled."""

    def __init__(self) -> None:
        self.values: list[bytes] = []
        self.asked: list[bytes] = []
        self.room = 2

    def produce(self, topic: str, value: bytes, key: bytes, partition: int, on_delivery: Any, *_: object) -> None:
        if self.room == 0:
            raise BufferError("queue full")
        self.room -= 1
        self.values.append(value)
        if on_delivery is not None:
            self.asked.append(value)

    def poll(self, _timeout_s: float) -> None:
        self.room = 2

    def abort_transaction(self, _timeout_s: float) -> None: ...

    def purge(self) -> None: ...

    def __len__(self) -> int:
        return 0


class CountingWatchdog:
    def __init__(self) -> None:
        self.calls: list[str] = []

    @contextmanager
    def armed(self, call: str) -> Iterator[None]:
        self.calls.append(call)
        yield


def test_a_full_queue_loses_and_reorders_nothing() -> None:
    producer, watchdog = FullProducer(), CountingWatchdog()
    transaction = Transaction(LocalHost(), cast("Any", producer), cast("Any", watchdog), 1)
    transaction.send(ProducerRecord("t", 0, b"k", b"%d" % n) for n in range(5))
    assert producer.values == [b"0", b"1", b"2", b"3", b"4"]
    assert producer.asked == [b"4"], "only the last record of a partition tells how far its log has come"
    assert watchdog.calls == ["produce", "produce"]


def test_a_transaction_writes_nothing_before_the_markers_of_the_last_one_had_their_time() -> None:
    producer, not_before_s = FullProducer(), monotonic() + 0.05
    transaction = Transaction(LocalHost(), cast("Any", producer), cast("Any", CountingWatchdog()), 1, not_before_s)
    transaction.send([ProducerRecord("t", 0, b"k", b"0")])
    assert monotonic() >= not_before_s
    assert producer.values == [b"0"]


class BrokerStamp:
    """A record as it was delivered: the broker appended it at this time."""

    def __init__(self, appended_at: int) -> None:
        self._appended_at = appended_at

    def topic(self) -> str:
        return "t"

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return 7

    def timestamp(self) -> tuple[int, int]:
        return 2, self._appended_at


@pytest.mark.parametrize(
    ("appended_ms", "told_ms", "says"),
    [
        (100, 200, ""),
        (100, 60_000, ""),  # it was told late: the broker's time lies between the two of ours all the same
        (59_000, 60_000, ""),
        (-4_000, 10, ""),
        (-6_000, 10, "6000 ms ahead of"),
        (6_100, 100, "6000 ms behind"),
    ],
)
def test_a_clock_is_off_where_the_brokers_time_is_not_between_sending_and_hearing_of_it(
    appended_ms: int, told_ms: int, says: str
) -> None:
    host, now_ms = StagedHost(), 1_000_000
    host.now_ms = lambda: now_ms  # type: ignore[method-assign]
    producer = TalkingProducer({}, [])
    transaction = Transaction(host, cast("Any", producer), cast("Any", CountingWatchdog()), 5_000)
    transaction.send([ProducerRecord("t", 0, b"k", b"0")])
    now_ms += told_ms
    transaction._delivered(None, cast("Any", BrokerStamp(1_000_000 + appended_ms)))
    if says:
        with pytest.raises(ClockSkew, match=says):
            transaction.commit({TopicPartition("t", 0): 1}, b"")
    else:
        transaction.commit({TopicPartition("t", 0): 1}, b"")
        assert transaction.committed


class DeafProducer:
    """A client that finds no coordinator for the positions until it is released, whatever timeout it is given."""

    def __init__(self) -> None:
        self.released = Event()
        self.committed = False

    def flush(self, _timeout_s: float) -> int:
        return 0

    def send_offsets_to_transaction(self, *_: object) -> None:
        self.released.wait(30)

    def commit_transaction(self, _timeout_s: float) -> None:
        self.committed = True


def test_positions_that_are_not_taken_in_time_abort_and_the_call_is_left_behind() -> None:
    producer = DeafProducer()
    transaction = Transaction(LocalHost(), cast("Any", producer), cast("Any", CountingWatchdog()), 1, patience_s=0.05)
    with pytest.raises(TransactionAborted, match="no answer"):
        transaction.commit({TopicPartition("t", 0): 1}, b"")
    assert not producer.committed
    assert transaction.left_behind is not None
    assert transaction.left_behind.is_alive()
    producer.released.set()
    transaction.left_behind.join(10)
    assert not producer.committed, "it came back too late: nobody goes on with it"


def test_what_goes_wrong_while_positions_are_sent_is_raised_as_it_is() -> None:
    class BrokenProducer(DeafProducer):
        def send_offsets_to_transaction(self, *_: object) -> None:
            raise ValueError("a bug, not a broker")

    producer = BrokenProducer()
    transaction = Transaction(LocalHost(), cast("Any", producer), cast("Any", CountingWatchdog()), 1)
    with pytest.raises(ValueError, match="a bug"):
        transaction.commit({TopicPartition("t", 0): 1}, b"")
    assert not producer.committed
    assert transaction.left_behind is None


@pytest.mark.parametrize(
    ("told", "raised"),
    [(KafkaError._FENCED, ProducerFenced), (KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER, TransactionAborted)],
)
def test_produce_calls_an_error_fatal_and_the_next_poll_says_which(told: int, raised: type[Exception]) -> None:
    class DeadProducer(FullProducer):
        def init_transactions(self, _timeout_s: float) -> None: ...

        def begin_transaction(self) -> None: ...

        def produce(self, *_: object) -> None:  # type: ignore[override]
            raise KafkaException(KafkaError(KafkaError._FATAL))

        def poll(self, _timeout_s: float) -> None:
            raise KafkaException(KafkaError(told, None, True))

    host, dead = StagedHost(client=DeadProducer()), ProducerRecord("t", 0, b"k", b"0")
    producer = TransactionalProducer(host, {"transactional.id": "w"}, cast("Any", CountingWatchdog()), 1)
    with pytest.raises(raised), producer.transaction() as transaction:
        transaction.send([dead])


class TalkingProducer(FullProducer):
    """A client that commits whatever it is given, and logs lines in its next `poll`."""

    def __init__(self, options: Mapping[str, Any], lines: list[str]) -> None:
        super().__init__()
        self.options, self.lines = options, lines

    def init_transactions(self, _timeout_s: float) -> None: ...

    def begin_transaction(self) -> None: ...

    def flush(self, _timeout_s: float) -> int:
        return 0

    def send_offsets_to_transaction(self, *_: object) -> None: ...

    def commit_transaction(self, _timeout_s: float) -> None: ...

    def poll(self, _timeout_s: float) -> None:
        while self.lines:
            self.options["logger"].log(20, "%s [%s] %s", self.lines.pop(), "rdkafka#producer-1", "what happened")


@pytest.mark.parametrize(("line", "producers"), [("FAIL", 2), ("REQTMOUT", 2), ("GETPID", 1)])
def test_a_commit_whose_connection_broke_is_the_last_of_its_producer(
    line: str, producers: int, caplog: pytest.LogCaptureFixture
) -> None:
    """It succeeded, for what was under way was sent again: what was sent first may end the next transaction."""
    made: list[Mapping[str, Any]] = []
    lines: list[str] = []

    class Host(StagedHost):
        def producer(self, options: Mapping[str, Any], /) -> Any:
            made.append(options)
            return TalkingProducer(options, lines)

    options: dict[str, object] = {"transactional.id": "w", "logger": getLogger("its own"), "log_level": 3}
    producer = TransactionalProducer(Host(), options, cast("Any", CountingWatchdog()), 1)
    for told in ([line], []):
        with producer.transaction() as transaction:
            transaction.commit({TopicPartition("t", 0): 1}, b"")
        lines += told
    assert len(made) == producers
    assert made[0]["log_level"] == 6, "else the line would not be written"
    with caplog.at_level("INFO"):
        made[0]["logger"].log(20, "%s", line)
    assert caplog.messages == [line], "it goes on to whoever reads"


class TimedProducer:
    """A client that answers at once, or not at all, and writes down how long it was given."""

    def __init__(self, world: TimedWorld) -> None:
        self._world = world

    def init_transactions(self, timeout_s: float) -> None:
        self._world.starts.append(round(timeout_s, 2))
        self._answer()

    def begin_transaction(self) -> None:
        pass

    def flush(self, timeout_s: float) -> int:
        self._world.flushes.append(round(timeout_s, 2))
        return 0 if self._world.answers else 1

    def send_offsets_to_transaction(self, *_: object) -> None:
        pass

    def commit_transaction(self, _timeout_s: float) -> None:
        pass

    def purge(self) -> None:
        pass

    def abort_transaction(self, _timeout_s: float) -> None:
        pass

    def poll(self, _timeout_s: float) -> int:
        return 0

    def _answer(self) -> None:
        if not self._world.answers:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))


class TimedWorld:
    """Brokers that answer at once or not at all, and a producer that asks them."""

    def __init__(self) -> None:
        self.answers = True
        self.starts: list[float] = []
        self.flushes: list[float] = []
        host, watchdog = StagedHost(client=TimedProducer(self)), cast("Any", CountingWatchdog())
        self.producer = TransactionalProducer(host, {"transactional.id": "x"}, watchdog, 1)

    def commit(self) -> bool:
        """Whether one transaction commits."""
        try:
            with self.producer.transaction() as transaction:
                transaction.commit({TopicPartition("t", 0): 1}, b"")
        except TransactionAborted:
            return False
        return True


def test_a_commit_is_waited_for_briefly_once_one_has_succeeded_and_longer_after_each_in_vain() -> None:
    world = TimedWorld()
    assert [world.commit(), world.commit()] == [True, True]
    assert world.flushes == [4.0, 1.5]
    world.answers = False
    assert not world.commit()
    assert not world.commit(), "a new producer is made, and does not start"
    world.answers = True
    assert world.commit()
    assert world.flushes == [4.0, 1.5, 1.5, 3.0]
    assert world.starts == [4.0, 1.5, 1.65]


def test_what_fails_before_the_brokers_are_asked_says_nothing_about_them() -> None:
    world = TimedWorld()
    assert world.commit()
    for _ in range(5):
        with pytest.raises(ZeroDivisionError), world.producer.transaction():
            raise ZeroDivisionError
    assert world.commit()
    assert world.flushes == [4.0, 1.5]


def test_an_id_whose_last_transaction_can_not_be_ended_yet_is_left_for_another_one() -> None:
    """A leader that went away silently has not got its marker; under the same id nothing could begin until then."""
    made: list[str] = []

    class Host(StagedHost):
        def producer(self, options: Mapping[str, Any], /) -> Any:
            made.append(options["transactional.id"])
            client = TalkingProducer(options, [])
            if len(made) < 4:
                client.init_transactions = refuse  # type: ignore[method-assign]
            return client

    def refuse(_timeout_s: float) -> None:
        raise KafkaException(KafkaError(KafkaError.CONCURRENT_TRANSACTIONS))

    producer = TransactionalProducer(Host(), {"transactional.id": "app.gate"}, cast("Any", CountingWatchdog()), 1)
    for _ in range(3):
        with pytest.raises(TransactionAborted):
            producer.start()
    producer.start()
    assert made == ["app.gate", "app.gate:2", "app.gate:3", "app.gate"]
