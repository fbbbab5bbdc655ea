"""A transaction's records: none lost or reordered where the client's queue is full, none before its time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event
from time import monotonic
from typing import Any, cast

import pytest

from placet.streams.errors import TransactionAborted
from placet.streams.producer import Transaction
from placet.streams.records import ProducerRecord, TopicPartition


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


class CountingWatchdog:
    def __init__(self) -> None:
        self.calls: list[str] = []

    @contextmanager
    def armed(self, call: str) -> Iterator[None]:
        self.calls.append(call)
        yield


def test_a_full_queue_loses_and_reorders_nothing() -> None:
    producer, watchdog = FullProducer(), CountingWatchdog()
    transaction = Transaction(cast("Any", producer), cast("Any", watchdog), lambda: 0, 1)
    transaction.send(ProducerRecord("t", 0, b"k", b"%d" % n) for n in range(5))
    assert producer.values == [b"0", b"1", b"2", b"3", b"4"]
    assert producer.asked == [b"4"], "only the last record of a partition tells how far its log has come"
    assert watchdog.calls == ["produce", "produce"]


def test_a_transaction_writes_nothing_before_the_markers_of_the_last_one_had_their_time() -> None:
    producer, not_before_s = FullProducer(), monotonic() + 0.05
    transaction = Transaction(cast("Any", producer), cast("Any", CountingWatchdog()), lambda: 0, 1, not_before_s)
    transaction.send([ProducerRecord("t", 0, b"k", b"0")])
    assert monotonic() >= not_before_s
    assert producer.values == [b"0"]


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


def test_positions_that_are_not_taken_in_time_abort_and_the_call_is_left_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("placet.streams.producer._CALL_TIMEOUT_S", 0.05)
    producer = DeafProducer()
    transaction = Transaction(cast("Any", producer), cast("Any", CountingWatchdog()), lambda: 0, 1)
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
    transaction = Transaction(cast("Any", producer), cast("Any", CountingWatchdog()), lambda: 0, 1)
    with pytest.raises(ValueError, match="a bug"):
        transaction.commit({TopicPartition("t", 0): 1}, b"")
    assert not producer.committed
    assert transaction.left_behind is None
