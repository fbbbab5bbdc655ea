"""A simulated producer: idempotent and, with a transactional id, transactional, as librdkafka 2.16 behaves.

What librdkafka's own threads do (send batches, add partitions to the transaction, try again) happens apart from the
calls, and goes on when nobody calls. Delivery reports and errors come in calls alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final

from confluent_kafka import KafkaError
from confluent_kafka import TopicPartition as ClientPartition

from placet.processors.address import partition_of
from placet.simulation.brokers.cluster import OK, SimulatedCluster
from placet.simulation.brokers.network import TIMED_OUT, TRANSPORT
from placet.simulation.clients.message import SimulatedMessage, failure
from placet.simulation.clients.sending import SendThread
from placet.simulation.clients.told import Told
from placet.simulation.clients.transaction import ProducerTransaction
from placet.simulation.scheduler import Process, Waiters

__all__ = ["SimulatedProducer"]

_OVERHEAD_BYTES: Final = 61
"""Of a record in the message format, at most."""


class SimulatedProducer:
    """See `placet.streams.kafka.clients.ProducerCalls`.

    Args:
        cluster: where it sends.
        process: whose client it is.
        options: librdkafka's.

    Attributes:
        fatal: why it is of no use any more.
    """

    def __init__(self, cluster: SimulatedCluster, process: Process, options: Mapping[str, Any]) -> None:
        self.cluster = cluster
        self.scheduler = cluster.scheduler
        self.process = process
        self.timeout_ns = _socket_timeout_ms(options) * 1_000_000
        self.waiters = Waiters()
        self.sending = SendThread(self, options)
        self.transaction: ProducerTransaction | None = None
        self._queue_max = int(options.get("queue.buffering.max.messages", 100_000))
        self._bytes_max = int(options.get("message.max.bytes", 1_000_000))
        self._count = 0  # queued, under way, and those whose report was not served yet
        self._reports: deque[tuple[KafkaError | None, SimulatedMessage]] = deque()
        self._told = Told(self.scheduler, options)
        self.fatal: KafkaError | None = None
        self._told_fatal = True
        if "transactional.id" in options:
            self.transaction = ProducerTransaction(self, options)
        else:
            self.producer_id, self.epoch = cluster.transactions.new_producer_id(), 0

    # -- calls ---------------------------------------------------------------------------------------------------------

    def produce(
        self,
        topic: str,
        value: bytes | None = None,
        key: bytes | None = None,
        partition: int = -1,
        on_delivery: Callable[[Any, Any], None] | None = None,
        _callback: None = None,
        _timestamp: int = 0,
        headers: Any = None,
    ) -> None:
        """See `ProducerCalls`."""
        self.process.check()
        if self.fatal is not None:
            raise failure(KafkaError._FATAL)
        if self.transaction is not None:
            self.transaction.check_open()
        size = len(key or b"") + len(value or b"")
        if headers:
            size += sum(len(name) + len(data or b"") for name, data in headers)
        if size + _OVERHEAD_BYTES > self._bytes_max:
            raise failure(KafkaError.MSG_SIZE_TOO_LARGE)
        if self._count >= self._queue_max:
            raise BufferError("Local: Queue full")
        if partition < 0:
            found = self.cluster.topics.get(topic)
            partition = partition_of(key or b"", len(found.partitions)) if found is not None else 0
        at = (topic, partition)
        lane = self.sending.lane(at)
        message = SimulatedMessage(at, None, 0, key, value, list(headers) if headers else None)
        message.on_delivery = on_delivery
        self._count += 1
        if self.transaction is not None:
            self.transaction.add(at)
        self.sending.put(lane, message)

    def poll(self, timeout: float, /) -> int:
        """See `ProducerCalls`."""
        self.scheduler.turn(self.process)
        served = self.serve()
        if not served and timeout:
            self.wait_until(lambda: bool(self._reports or self._told.waiting or not self._told_fatal), timeout)
            served = self.serve()
        return served

    def flush(self, timeout: float, /) -> int:
        """See `ProducerCalls`."""
        self.scheduler.turn(self.process)
        self.deliver_all(self.scheduler.now_ns + round(timeout * 1e9))
        return len(self)

    def purge(self) -> None:
        """See `ProducerCalls`."""
        self.process.check()
        self.sending.drop_all()

    def __len__(self) -> int:
        """See `ProducerCalls`."""
        return self._count + len(self._told.waiting) + (not self._told_fatal)

    def init_transactions(self, timeout: float, /) -> None:
        """See `ProducerCalls`."""
        self._transaction().init(timeout)

    def begin_transaction(self) -> None:
        """See `ProducerCalls`."""
        self._transaction().begin()

    def send_offsets_to_transaction(self, positions: list[ClientPartition], metadata: Any, timeout: float, /) -> None:
        """See `ProducerCalls`."""
        self._transaction().send_positions(positions, metadata, timeout)

    def commit_transaction(self, timeout: float, /) -> None:
        """See `ProducerCalls`."""
        self._transaction().commit(timeout)

    def abort_transaction(self, timeout: float, /) -> None:
        """See `ProducerCalls`."""
        self._transaction().abort(timeout)

    # -- for its thread and its transaction ----------------------------------------------------------------------------

    def die(self, code: int) -> None:
        """Let it be of no use any more; each call tells so, and one that serves events is interrupted by it."""
        if self.fatal is None:
            self.fatal = KafkaError(code, None, True)
            self._told_fatal = False
            self.sending.drop_queued()

    def report(self, message: SimulatedMessage, code: int = OK) -> None:
        """Let the next call that serves reports tell what became of a record."""
        self._reports.append((KafkaError(code) if code else None, message))
        if code and self.transaction is not None:
            self.transaction.not_delivered()

    def note_failure(self, number: int, code: int, value: object) -> None:
        """Let the next call that serves events tell why a request has no answer, if that is the network's fault."""
        if code in (TRANSPORT, TIMED_OUT):
            self._told.note(number, code, value)
            self.scheduler.wake(self.waiters)

    def wait_until(self, is_so: Callable[[], bool], timeout_s: float) -> bool:
        """Wait inside of a call; return whether it came true."""
        limit_ns = self.scheduler.now_ns + round(timeout_s * 1e9)
        while not is_so():
            left_ns = limit_ns - self.scheduler.now_ns
            if left_ns <= 0 or not self.scheduler.wait(self.process, self.waiters, left_ns):
                return is_so()
        return True

    def deliver_all(self, until_ns: int) -> bool:
        """Wait until every record is delivered or not, and that is told; nothing lingers. Return whether it is so."""
        self.sending.hurry()
        self.serve(flushing=True)
        while self._count and (left_ns := until_ns - self.scheduler.now_ns) > 0:
            self.scheduler.wait(self.process, self.waiters, left_ns)
            self.serve(flushing=True)
        return not self._count

    # -- inside --------------------------------------------------------------------------------------------------------

    def _transaction(self) -> ProducerTransaction:
        self.scheduler.turn(self.process)
        if self.transaction is None:
            raise failure(KafkaError._NOT_CONFIGURED)
        return self.transaction

    def serve(self, *, flushing: bool = False) -> int:
        """Serve callbacks, inside of a call; return how many. A fatal error comes first, and interrupts the call."""
        self.process.check()
        served = self._told.serve()
        if self.fatal is not None and not self._told_fatal:
            self._told_fatal = True
            raised = failure(self.fatal.code(), self.fatal.str(), fatal=True)
            if flushing and self._reports and self.cluster.choices.pick(2):
                self._trip_over(raised)
            raise raised
        while self._reports:
            error_of, message = self._reports.popleft()
            self._count -= 1
            served += 1
            if message.on_delivery is not None:
                message.on_delivery(error_of, message)
        return served

    def _trip_over(self, raised: Exception) -> None:
        """Lose a report: the binding calls its callback with the error pending, and Python trips over that."""
        self._count -= 1
        if self._reports.popleft()[1].on_delivery is not None:
            if self.cluster.network.trouble and self.cluster.choices.pick(2):
                raise SystemError("<cyimpl.Producer> returned NULL without setting an exception")
            raise SystemError("<method 'flush'> returned a result with an exception set") from raised


def _socket_timeout_ms(options: Mapping[str, Any]) -> int:
    """Return how long an answer is waited for. In a transaction that is no longer than the transaction may take."""
    if "transactional.id" not in options:
        return int(options.get("socket.timeout.ms", 60_000))
    transaction_ms = int(options.get("transaction.timeout.ms", 60_000))
    timeout_ms = int(options.get("socket.timeout.ms", max(transaction_ms - 100, 900)))
    if timeout_ms > transaction_ms + 100:
        raise failure(KafkaError._INVALID_ARG, "`socket.timeout.ms` must be set <= `transaction.timeout.ms` + 100")
    return timeout_ms
