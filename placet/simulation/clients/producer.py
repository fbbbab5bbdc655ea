"""A simulated producer: idempotent and, with a transactional id, transactional, as librdkafka 2.16 behaves.

What librdkafka's own threads do (send batches, add partitions to the transaction, try again) happens apart from the
calls, and goes on when nobody calls. Delivery reports and errors come in calls alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from confluent_kafka import KafkaError
from confluent_kafka import TopicPartition as ClientPartition

from placet.processors.address import partition_of
from placet.simulation.brokers.cluster import NOT_COORDINATOR, NOT_LEADER, OK, SimulatedCluster
from placet.simulation.brokers.log import Piece, ProducerBatch
from placet.simulation.brokers.network import TIMED_OUT, TRANSPORT, Reply, Sender
from placet.simulation.clients.message import SimulatedMessage, failure
from placet.simulation.clients.transaction import ProducerTransaction
from placet.simulation.scheduler import Process, Waiters

__all__ = ["SimulatedProducer"]

_RETRY_NS: Final = 100_000_000
_AT_ONCE_MAX: Final = 400
At = tuple[str, int]


class _SendLane:
    """What waits for one partition, and the batch that is under way."""

    __slots__ = ("at", "messages", "scheduled", "sending", "sequence")

    def __init__(self, at: At) -> None:
        self.at = at
        self.messages: deque[SimulatedMessage] = deque()
        self.sending: list[SimulatedMessage] = []
        self.sequence = 0
        self.scheduled = False


class SimulatedProducer:
    """See `placet.streams.kafka.clients.ProducerCalls`.

    Args:
        cluster: where it sends.
        process: whose client it is.
        options: librdkafka's.
    """

    def __init__(self, cluster: SimulatedCluster, process: Process, options: Mapping[str, Any]) -> None:
        self.cluster = cluster
        self.scheduler = cluster.scheduler
        self.process = process
        self.timeout_ns = int(options.get("socket.timeout.ms", 60_000)) * 1_000_000
        self.waiters = Waiters()
        self.transaction: ProducerTransaction | None = None
        self._linger_ns = max(1, int(float(options.get("linger.ms", 5)) * 1e6))
        self._queue_max = int(options.get("queue.buffering.max.messages", 100_000))
        self._error_cb: Callable[[KafkaError], None] | None = options.get("error_cb")
        self._lanes: dict[At, _SendLane] = {}
        self._count = 0  # queued and under way
        self._reports: deque[tuple[KafkaError | None, SimulatedMessage]] = deque()
        self._errors: deque[KafkaError] = deque()
        self._fatal: KafkaError | None = None
        self._told_fatal = True
        self._round = 0  # counts purges and new epochs: what was sent before is of no interest
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
        if self._fatal is not None:
            raise failure(self._fatal.code(), self._fatal.str(), fatal=True)
        if self.transaction is not None:
            self.transaction.check_open()
        if self._count >= self._queue_max:
            raise BufferError("Local: Queue full")
        if partition < 0:
            found = self.cluster.topics.get(topic)
            partition = partition_of(key or b"", len(found.partitions)) if found is not None else 0
        at = (topic, partition)
        lane = self._lanes.get(at)
        if lane is None:
            lane = self._lanes[at] = _SendLane(at)
        message = SimulatedMessage(at, None, 0, key, value, list(headers) if headers else None)
        message.on_delivery = on_delivery
        lane.messages.append(message)
        self._count += 1
        self._send_soon(lane)

    def poll(self, timeout: float, /) -> int:
        """See `ProducerCalls`."""
        self.scheduler.turn(self.process)
        served = self.serve()
        if not served and timeout:
            self.wait_until(lambda: bool(self._reports or self._errors or not self._told_fatal), timeout)
            served = self.serve()
        return served

    def flush(self, timeout: float, /) -> int:
        """See `ProducerCalls`."""
        self.scheduler.turn(self.process)
        limit_ns = self.scheduler.now_ns + round(timeout * 1e9)
        self.serve()
        while self._count and self.scheduler.now_ns < limit_ns:
            if not self.scheduler.wait(self.process, self.waiters, limit_ns - self.scheduler.now_ns):
                break
            self.serve()
        return len(self)

    def purge(self) -> None:
        """See `ProducerCalls`."""
        self.process.check()
        self._round += 1
        for lane in self._lanes.values():
            for message in lane.sending:
                self._report(message, KafkaError._PURGE_INFLIGHT)
            for message in lane.messages:
                self._report(message, KafkaError._PURGE_QUEUE)
            if lane.sending:  # nobody knows whether they arrived: the numbers that follow may not fit
                lane.sequence += len(lane.sending)
            lane.sending, lane.messages, lane.scheduled = [], deque(), False
        self.scheduler.wake(self.waiters)

    def __len__(self) -> int:
        """See `ProducerCalls`."""
        return self._count + len(self._reports) + len(self._errors)

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

    # -- for the transaction -------------------------------------------------------------------------------------------

    @property
    def fatal(self) -> KafkaError | None:
        """Why it is of no use any more."""
        return self._fatal

    def die(self, code: int) -> None:
        """Let it be of no use any more; each call tells so, and one that serves events is interrupted by it."""
        if self._fatal is None:
            self._fatal = KafkaError(code, None, True)
            self._told_fatal = False
            self.scheduler.wake(self.waiters)

    def note_transport(self, number: int) -> None:
        """A connection broke: `error_cb` will hear of it."""
        if self._error_cb is not None and len(self._errors) < 10:
            self._errors.append(KafkaError(TRANSPORT, f"broker {number}: Disconnected"))
            self.scheduler.wake(self.waiters)

    def wait_until(self, is_so: Callable[[], bool], timeout_s: float) -> bool:
        """Wait inside of a call; return whether it came true."""
        limit_ns = self.scheduler.now_ns + round(timeout_s * 1e9)
        while not is_so():
            left_ns = limit_ns - self.scheduler.now_ns
            if left_ns <= 0 or not self.scheduler.wait(self.process, self.waiters, left_ns):
                return is_so()
        return True

    def new_epoch(self) -> None:
        """Begin to number records anew."""
        self._round += 1
        for lane in self._lanes.values():
            lane.sequence = 0

    def send_what_waits(self) -> None:
        """Send what could not be sent before."""
        for lane in self._lanes.values():
            self._send_soon(lane, 0)

    def waiting(self) -> int:
        """Return how many records are not delivered."""
        return self._count

    # -- inside --------------------------------------------------------------------------------------------------------

    def _transaction(self) -> ProducerTransaction:
        self.scheduler.turn(self.process)
        if self.transaction is None:
            raise failure(KafkaError._NOT_CONFIGURED)
        return self.transaction

    def serve(self) -> int:
        """Serve callbacks, inside of a call; return how many."""
        self.process.check()
        served = 0
        while self._errors:
            error = self._errors.popleft()
            served += 1
            if self._error_cb is not None:
                self._error_cb(error)
        if self._fatal is not None and not self._told_fatal:
            self._told_fatal = True
            raised = failure(self._fatal.code(), self._fatal.str(), fatal=True)
            if self._reports and self._reports.popleft()[1].on_delivery is not None:
                # The binding calls a report's callback with the error pending, and Python trips over it.
                if self.cluster.choices.pick(2):
                    raise SystemError("<cyimpl.Producer> returned NULL without setting an exception")
                raise SystemError("<method 'poll'> returned a result with an exception set") from raised
            raise raised
        while self._reports:
            error_of, message = self._reports.popleft()
            served += 1
            if message.on_delivery is not None:
                message.on_delivery(error_of, message)
        return served

    def _report(self, message: SimulatedMessage, code: int = OK) -> None:
        self._count -= 1
        if message.on_delivery is not None:
            self._reports.append((KafkaError(code) if code else None, message))

    def _send_soon(self, lane: _SendLane, after_ns: int = -1) -> None:
        if lane.scheduled or lane.sending or not lane.messages:
            return
        lane.scheduled = True
        delay_ns = self._linger_ns * (1 + self.cluster.choices.pick(4)) // 4 if after_ns < 0 else after_ns
        self.scheduler.later(delay_ns, partial(self._send, lane, self._round), self.process)

    def _send(self, lane: _SendLane, round_: int) -> None:
        if round_ != self._round or self._fatal is not None:
            return
        lane.scheduled = False
        if not lane.messages or (self.transaction is not None and not self.transaction.may_send(lane.at)):
            return
        count = min(len(lane.messages), _AT_ONCE_MAX)
        if count > 1 and self.cluster.choices.pick(4) == 0:
            count = 1 + self.cluster.choices.pick(count)
        lane.sending = [lane.messages.popleft() for _ in range(count)]
        producer_id, epoch = (
            (self.producer_id, self.epoch)
            if self.transaction is None
            else (self.transaction.producer_id, self.transaction.epoch)
        )
        batch = ProducerBatch(
            producer_id, epoch, lane.sequence, self.transaction is not None,
            [Piece(message.key_, message.value_, message.headers_) for message in lane.sending],
        )  # fmt: skip
        self._deliver(lane, batch, round_)

    def _deliver(self, lane: _SendLane, batch: ProducerBatch, round_: int) -> None:
        if round_ != self._round or self._fatal is not None:
            return
        number = self.cluster.leader_of(lane.at)

        def handle(reply: Reply) -> None:
            found = self.cluster.partition(lane.at)
            if found is None or found.leader != number:
                reply(NOT_LEADER, None)
                return
            log, place = found.log, lane.at
            if (
                batch.transactional
                and not log.has_open(batch.producer_id)
                and not self.cluster.transactions.may_write(batch.producer_id, batch.epoch, place)
            ):
                reply(int(KafkaError.INVALID_TXN_STATE), None)
                return
            stamp = self.cluster.network.clock_ms(number)
            offset = log.append(batch, stamp, self.cluster.transactions.number_of(batch.producer_id))
            if offset < 0:
                reply(-1 - offset, None)
                return
            self.cluster.replicate_soon(found)
            last, losses = offset + len(batch.pieces), log.losses

            def look() -> None:
                if log.losses != losses:
                    reply(NOT_LEADER, None)
                elif log.high_watermark >= last:
                    reply(OK, (offset, stamp))
                else:
                    log.changed.append(look)

            look()

        def replied(code: int, value: Any) -> None:
            if round_ != self._round:
                return
            if code == OK:
                offset, stamp = value
                for index, message in enumerate(lane.sending):
                    message.offset_, message.stamp = offset + index, stamp
                    self._report(message)
                lane.sequence += len(lane.sending)
                lane.sending = []
                self._send_soon(lane, 0)
                self.scheduler.wake(self.waiters)
            elif code in (NOT_LEADER, TRANSPORT, TIMED_OUT, NOT_COORDINATOR):
                if code in (TRANSPORT, TIMED_OUT):
                    self.note_transport(number)
                self.scheduler.later(_RETRY_NS, partial(self._deliver, lane, batch, round_), self.process)
            else:
                self._refused(lane, code)

        self.cluster.network.send(Sender(self.process, "Produce"), number, handle, replied, self.timeout_ns)

    def _refused(self, lane: _SendLane, code: int) -> None:
        for message in (*lane.sending, *lane.messages):
            self._report(message, code)
        lane.sending, lane.messages = [], deque()
        if self.transaction is not None:
            self.transaction.refused(code)
        self.scheduler.wake(self.waiters)
