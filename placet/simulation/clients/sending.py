"""What a producer's own thread does: it sends what was produced, in batches, until leaders have taken or refused it."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from confluent_kafka import KafkaError

from placet.simulation.brokers.cluster import NOT_COORDINATOR, NOT_LEADER, OK
from placet.simulation.brokers.log import Piece, ProducerBatch
from placet.simulation.brokers.network import TIMED_OUT, TRANSPORT, Reply, Sender
from placet.simulation.clients.message import SimulatedMessage, failure

if TYPE_CHECKING:
    from placet.simulation.clients.producer import SimulatedProducer

__all__ = ["SendLane", "SendThread"]

_RETRY_NS: Final = 100_000_000
_TOO_FEW: Final = int(KafkaError.NOT_ENOUGH_REPLICAS)
_AGAIN: Final = frozenset({NOT_LEADER, TRANSPORT, TIMED_OUT, NOT_COORDINATOR, _TOO_FEW})
_AT_ONCE_MAX: Final = 400
At = tuple[str, int]


class SendLane:
    """What waits for one partition, and the batch that is under way."""

    __slots__ = ("at", "messages", "scheduled", "sending", "sequence")

    def __init__(self, at: At) -> None:
        self.at = at
        self.messages: deque[SimulatedMessage] = deque()
        self.sending: list[SimulatedMessage] = []
        self.sequence = 0
        self.scheduled = False


class SendThread:
    """The lanes of one producer.

    Args:
        producer: whose it is.
        options: librdkafka's.
    """

    def __init__(self, producer: SimulatedProducer, options: Mapping[str, Any]) -> None:
        self._producer = producer
        self._cluster = producer.cluster
        self._scheduler = producer.scheduler
        self._process = producer.process
        self._linger_ns = max(1, int(float(options.get("linger.ms", 5)) * 1e6))
        self._lanes: dict[At, SendLane] = {}
        self._round = 0  # counts purges and new epochs: what was sent before is of no interest

    def lane(self, at: At) -> SendLane:
        """Return a partition's lane. Raises `KafkaException` where its topic has no such partition."""
        lane = self._lanes.get(at)
        if lane is None:
            if at[0] in self._cluster.topics and self._cluster.partition(at) is None:
                raise failure(KafkaError._UNKNOWN_PARTITION)
            lane = self._lanes[at] = SendLane(at)
        return lane

    def put(self, lane: SendLane, message: SimulatedMessage) -> None:
        """Send a record, after a while."""
        lane.messages.append(message)
        self._send_soon(lane)

    def hurry(self) -> None:
        """Let nothing wait for others any longer."""
        for lane in self._lanes.values():
            if lane.scheduled:
                self._scheduler.later(0, partial(self._send, lane, self._round), self._process)

    def drop_all(self) -> None:
        """Drop what is queued or under way, and report that."""
        self._round += 1
        for lane in self._lanes.values():
            for message in lane.sending:
                self._producer.report(message, KafkaError._PURGE_INFLIGHT)
            if lane.sending:  # nobody knows whether they arrived: the numbers that follow may not fit
                lane.sequence += len(lane.sending)
            lane.sending, lane.scheduled = [], False
        self.drop_queued()

    def new_epoch(self) -> None:
        """Begin to number records anew."""
        self._round += 1
        for lane in self._lanes.values():
            lane.sequence = 0

    def send_what_waits(self) -> None:
        """Send what could not be sent before."""
        for lane in self._lanes.values():
            self._send_soon(lane, 0)

    def drop_queued(self) -> None:
        """Drop what is not under way yet, and report that."""
        for lane in self._lanes.values():
            for message in lane.messages:
                self._producer.report(message, KafkaError._PURGE_QUEUE)
            lane.messages.clear()
        self._scheduler.wake(self._producer.waiters)

    # -- inside --------------------------------------------------------------------------------------------------------

    def _send_soon(self, lane: SendLane, after_ns: int = -1) -> None:
        if lane.scheduled or lane.sending or not lane.messages:
            return
        lane.scheduled = True
        if self._cluster.network.near:
            after_ns = 0  # it goes once the calling thread waits
        delay_ns = self._linger_ns * (1 + self._cluster.choices.pick(4)) // 4 if after_ns < 0 else after_ns
        self._scheduler.later(delay_ns, partial(self._send, lane, self._round), self._process)

    def _send(self, lane: SendLane, round_: int) -> None:
        if round_ != self._round or self._producer.fatal is not None:
            return
        lane.scheduled = False
        producer, transaction = self._producer, self._producer.transaction
        if lane.sending or not lane.messages or (transaction is not None and not transaction.may_send(lane.at)):
            return
        count = min(len(lane.messages), _AT_ONCE_MAX)
        if count > 1 and self._cluster.choices.pick(4) == 0:
            count = 1 + self._cluster.choices.pick(count)
        lane.sending = [lane.messages.popleft() for _ in range(count)]
        named = producer if transaction is None else transaction
        batch = ProducerBatch(
            named.producer_id, named.epoch, lane.sequence, transaction is not None,
            [Piece(message.key_, message.value_, message.headers_) for message in lane.sending],
        )  # fmt: skip
        self._deliver(lane, batch, round_)

    def _deliver(self, lane: SendLane, batch: ProducerBatch, round_: int) -> None:
        if round_ != self._round:
            return
        number = self._cluster.leader_of(lane.at)

        def handle(reply: Reply) -> None:
            found = self._cluster.partition(lane.at)
            if found is None or found.leader != number:
                reply(NOT_LEADER, None)
                return
            if not found.takes_writes:
                reply(_TOO_FEW, None)
                return
            log, place = found.log, lane.at
            if batch.transactional and not log.has_open(batch.producer_id):
                if not self._cluster.network.works(self._cluster.transaction_coordinator):
                    reply(_TOO_FEW, None)  # which the leader says, too, when it can't ask (KIP-890)
                    return
                refusal = self._cluster.transactions.check_write(batch.producer_id, batch.epoch, place)
                if refusal:
                    reply(refusal, None)
                    return
            stamp = self._cluster.network.clock_ms(number)
            offset = log.append(batch, stamp, self._cluster.transactions.number_of(batch.producer_id))
            if offset < 0:
                reply(-1 - offset, None)
                return
            self._cluster.replicate_soon(found)
            last, losses = offset + len(batch.pieces), log.losses

            def look() -> None:
                if log.losses != losses:
                    reply(NOT_LEADER, None)
                elif log.high_watermark >= last:
                    reply(OK, (offset, stamp))
                else:
                    log.changed.append(look)

            look()

        self._cluster.network.send(
            Sender(self._process, "Produce", lane.at), number, handle,
            partial(self._replied, lane, batch, round_, number), self._producer.timeout_ns,
        )  # fmt: skip

    def _replied(self, lane: SendLane, batch: ProducerBatch, round_: int, number: int, code: int, stored: Any) -> None:
        if round_ != self._round:
            return
        if code == OK:
            offset, stamp = stored
            for index, message in enumerate(lane.sending):
                message.offset_, message.stamp = offset + index, stamp
                self._producer.report(message)
            lane.sequence += len(lane.sending)
            lane.sending = []
            self._send_soon(lane, 0)
            self._scheduler.wake(self._producer.waiters)
        elif code in _AGAIN:
            self._producer.note_failure(number, code, stored)
            self._scheduler.later(_RETRY_NS, partial(self._deliver, lane, batch, round_), self._process)
        else:
            self._refused(lane, code)

    def _refused(self, lane: SendLane, code: int) -> None:
        if self._producer.transaction is not None:
            self._producer.transaction.refused(code)
        for message in (*lane.sending, *lane.messages):
            self._producer.report(message, code)
        lane.sending, lane.messages = [], deque()
        self._scheduler.wake(self._producer.waiters)
