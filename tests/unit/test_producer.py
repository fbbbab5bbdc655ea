"""A transaction's records: none lost or reordered where the client's queue is full, none before its time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any, cast

from placet.streams.producer import Transaction
from placet.streams.records import ProducerRecord


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
