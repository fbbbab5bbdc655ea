"""Requests of a transactional producer to a coordinator: made again until they are answered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from confluent_kafka import KafkaError

from placet.simulation.brokers.network import TIMED_OUT, TRANSPORT, Handle, Sender

if TYPE_CHECKING:
    from placet.simulation.clients.producer import SimulatedProducer

__all__ = ["AGAIN", "CONCURRENT", "CoordinatorRequest", "pause_ns"]

_RETRY_NS: Final = 100_000_000
_CONCURRENT_RETRY_NS: Final = 20_000_000
CONCURRENT: Final = int(KafkaError.CONCURRENT_TRANSACTIONS)
AGAIN: Final = frozenset({
    TRANSPORT, TIMED_OUT, CONCURRENT, int(KafkaError.NOT_COORDINATOR), int(KafkaError.COORDINATOR_NOT_AVAILABLE),
    int(KafkaError.COORDINATOR_LOAD_IN_PROGRESS),
})  # fmt: skip
_GIVES_UP: Final = {"AddOffsetsToTxn": AGAIN, "TxnOffsetCommit": AGAIN - {TRANSPORT}}
"""Codes that end a request of these kinds, once its time is over. Nothing else does: where none of them comes, it waits
for ever (librdkafka #5456). Requests of the other kinds go on behind a call that has given up."""


def pause_ns(code: int) -> int:
    """Return how long after this code a request is made again."""
    return _CONCURRENT_RETRY_NS if code == CONCURRENT else _RETRY_NS


class CoordinatorRequest:
    """A request that was made, and is made again, also when no call waits for it any more.

    Args:
        producer: who makes it.
        what: it is called in Kafka's protocol.
        handle: what the coordinator does.
        until_ns: the end of the call that waits for it.

    Attributes:
        until_ns: the end of the last call that waited for it.
        answer: code and answer, None before.
        last: the last code that came.
    """

    def __init__(self, producer: SimulatedProducer, what: str, handle: Handle, until_ns: int) -> None:
        self.what = what
        self.until_ns = until_ns
        self.answer: tuple[int, Any] | None = None
        self.last = TIMED_OUT
        self._producer = producer
        self._handle = handle
        self._gives_up = _GIVES_UP.get(what)
        self._send()

    def _send(self) -> None:
        producer, cluster = self._producer, self._producer.cluster
        in_time = self._gives_up is not None or producer.scheduler.now_ns < self.until_ns + producer.timeout_ns
        if producer.fatal is None and in_time:
            to_group = self.what == "TxnOffsetCommit"
            ask = cluster.ask_group_coordinator if to_group else cluster.ask_transaction_coordinator
            ask(Sender(producer.process, self.what), self._handle, self._replied, producer.timeout_ns)

    def _replied(self, code: int, value: Any) -> None:
        producer, scheduler = self._producer, self._producer.scheduler
        self.last = code
        producer.note_failure(0, code, value)
        gives_up = self._gives_up is not None and code in self._gives_up and scheduler.now_ns >= self.until_ns
        if code in AGAIN and not gives_up:
            scheduler.later(pause_ns(code), self._send, producer.process)
        else:
            self.answer = code, value
            scheduler.wake(producer.waiters)
