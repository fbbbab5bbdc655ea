"""The transactional half of a simulated producer: its calls, and the requests to coordinators that they wait for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from confluent_kafka import KafkaError
from confluent_kafka import TopicPartition as ClientPartition

from placet.simulation.brokers.cluster import OK
from placet.simulation.brokers.log import ABORT, COMMIT
from placet.simulation.brokers.network import TIMED_OUT, TRANSPORT, Reply, Sender
from placet.simulation.clients.message import failure
from placet.streams.kafka.membership import membership

if TYPE_CHECKING:
    from placet.simulation.clients.producer import SimulatedProducer

__all__ = ["ProducerTransaction"]

_RETRY_NS: Final = 100_000_000
_CONCURRENT_RETRY_NS: Final = 20_000_000
_CONCURRENT: Final = int(KafkaError.CONCURRENT_TRANSACTIONS)
_FENCED: Final = frozenset({
    int(KafkaError.INVALID_PRODUCER_EPOCH), int(KafkaError.PRODUCER_FENCED),
    int(KafkaError.INVALID_PRODUCER_ID_MAPPING),
})  # fmt: skip
_AGAIN: Final = frozenset({
    TRANSPORT, TIMED_OUT, _CONCURRENT, int(KafkaError.NOT_COORDINATOR), int(KafkaError.COORDINATOR_NOT_AVAILABLE),
    int(KafkaError.COORDINATOR_LOAD_IN_PROGRESS),
})  # fmt: skip
_NO_TRANSACTION: Final = "none"
_OPEN: Final = "open"
_COMMITTING: Final = "committing"
_ABORTING: Final = "aborting"
_FAILED: Final = "failed"
_FOR_EVER_S: Final = 1e6
At = tuple[str, int]


class ProducerTransaction:
    """What a transactional producer knows of its transaction.

    Attributes:
        producer_id: given by the coordinator, -1 before.
        epoch: likewise.
    """

    def __init__(self, producer: SimulatedProducer, options: Mapping[str, Any]) -> None:
        self.producer_id = -1
        self.epoch = -1
        self._producer = producer
        self._id = str(options["transactional.id"])
        self._timeout_ns = int(options.get("transaction.timeout.ms", 60_000)) * 1_000_000
        self._state = ""
        self._failure = 0  # code of what makes an abort necessary
        self._added: set[At] = set()
        self._asked: set[At] = set()
        self._adding = False
        self._has_positions = False

    # -- calls ---------------------------------------------------------------------------------------------------------

    def init(self, timeout_s: float) -> None:
        """Ask for an id and an epoch until there is an answer."""
        if self._state:
            raise failure(KafkaError._STATE)
        cluster, name, timeout_ns = self._producer.cluster, self._id, self._timeout_ns

        def handle(reply: Reply) -> None:
            code, producer_id, epoch = cluster.transactions.init(name, timeout_ns)
            reply(code, (producer_id, epoch))

        answer, last = self._ask("InitProducerId", handle, timeout_s)
        if answer is None:
            code = _CONCURRENT if last == _CONCURRENT else TIMED_OUT
            raise failure(code, f"init_transactions: {KafkaError(last).str()}", retriable=True)
        self.producer_id, self.epoch = answer
        self._producer.new_epoch()
        self._state = _NO_TRANSACTION

    def begin(self) -> None:
        """Open a transaction: no broker hears of it before there is something in it."""
        self._check()
        if self._state != _NO_TRANSACTION:
            raise failure(KafkaError._STATE, f"Operation not valid in state {self._state}")
        self._state, self._failure = _OPEN, 0
        self._added.clear()
        self._asked.clear()
        self._has_positions = False

    def send_positions(self, positions: list[ClientPartition], metadata: Any, _timeout_s: float) -> None:
        """Add positions. The timeout is ignored (librdkafka #5456)."""
        self._check()
        self.check_open()
        moved = {(at.topic, at.partition): at.offset for at in positions}
        if not moved:
            return
        cluster, name, number, epoch = self._producer.cluster, self._id, self.producer_id, self.epoch
        data = bytes(metadata)
        group = data[11:].partition(b"\0")[0].decode()
        member_epoch, member_id = membership(data)
        now_ns = self._producer.scheduler.now_ns

        def add(reply: Reply) -> None:
            reply(cluster.transactions.add(name, number, epoch, [(group, -1)], now_ns), True)

        def store(reply: Reply) -> None:
            code = cluster.group(group).check(member_id, member_epoch, moved, transactional=True)
            if code == OK and not cluster.transactions.may_write(number, epoch, (group, -1)):
                code = int(KafkaError.INVALID_PRODUCER_EPOCH)
            if code == OK:
                cluster.group(group).store_in_transaction(number, moved)
            reply(code, True)

        self._ask("AddOffsetsToTxn", add, None)
        self._has_positions = True
        self._ask("TxnOffsetCommit", store, None)

    def commit(self, timeout_s: float) -> None:
        """Wait for all deliveries, then for the coordinator's word."""
        self._check()
        producer, until_ns = self._producer, self._until_ns(timeout_s)
        if self._state not in (_OPEN, _COMMITTING):
            raise failure(KafkaError._STATE, f"Operation not valid in state {self._state}")
        while self._state == _OPEN and producer.waiting():
            producer.serve()
            self._check()
            left_ns = until_ns - producer.scheduler.now_ns
            if left_ns <= 0 or not producer.scheduler.wait(producer.process, producer.waiters, left_ns):
                raise failure(TIMED_OUT, "Failed to flush all outstanding messages", retriable=True)
        producer.serve()
        self._check()
        self._end(COMMIT, _COMMITTING, until_ns)

    def abort(self, timeout_s: float) -> None:
        """Drop what waits, then wait for the coordinator's word."""
        if self._producer.fatal is not None:
            raise failure(self._producer.fatal.code(), self._producer.fatal.str(), fatal=True)
        if self._state not in (_OPEN, _FAILED, _ABORTING):
            raise failure(KafkaError._STATE, f"Operation not valid in state {self._state or 'init'}")
        self._producer.purge()
        self._end(ABORT, _ABORTING, self._until_ns(timeout_s))

    # -- for the producer ----------------------------------------------------------------------------------------------

    def check_open(self) -> None:
        """Raise what a call raises that needs an open transaction."""
        if self._state == _FAILED:
            raise failure(self._failure, abortable=True)
        if self._state != _OPEN:
            raise failure(KafkaError._STATE, f"Operation not valid in state {self._state or 'init'}")

    def may_send(self, at: At) -> bool:
        """Tell whether a partition is in the transaction; if not, ask for that, and send what waits afterwards."""
        if at in self._added:
            return True
        self._asked.add(at)
        if not self._adding:
            self._adding = True
            self._add()
        return False

    def refused(self, code: int) -> None:
        """A leader refused a batch."""
        if code in _FENCED:
            self._producer.die(KafkaError._FENCED)
        else:
            self._fail(code)

    # -- inside --------------------------------------------------------------------------------------------------------

    def _until_ns(self, timeout_s: float) -> int:
        scheduler = self._producer.scheduler
        return scheduler.now_ns + (round(timeout_s * 1e9) if timeout_s >= 0 else self._timeout_ns)

    def _check(self) -> None:
        self._producer.process.check()
        fatal = self._producer.fatal
        if fatal is not None:
            raise failure(fatal.code(), fatal.str(), fatal=True)
        if self._state == _FAILED:
            raise failure(self._failure, abortable=True)

    def _fail(self, code: int) -> None:
        if self._state in (_OPEN, _COMMITTING):
            self._state, self._failure = _FAILED, code
        self._producer.scheduler.wake(self._producer.waiters)

    def _add(self) -> None:
        """Add partitions to the transaction at its coordinator, as librdkafka's thread does."""
        producer = self._producer
        if self._state != _OPEN:
            self._adding = False
            return
        places, cluster = sorted(self._asked), producer.cluster
        name, number, epoch = self._id, self.producer_id, self.epoch

        def handle(reply: Reply) -> None:
            reply(cluster.transactions.add(name, number, epoch, places, cluster.scheduler.now_ns), None)

        def replied(code: int, _value: Any) -> None:
            if code in _AGAIN and self._state == _OPEN:
                if code == TRANSPORT:
                    producer.note_transport(cluster.transaction_coordinator)
                delay_ns = _CONCURRENT_RETRY_NS if code == _CONCURRENT else _RETRY_NS
                producer.scheduler.later(delay_ns, self._add, producer.process)
                return
            self._adding = False
            if code == OK:
                self._added.update(places)
                self._asked.difference_update(places)
                producer.send_what_waits()
            else:
                self.refused(code)

        sender = Sender(producer.process, "AddPartitionsToTxn")
        cluster.ask_transaction_coordinator(sender, handle, replied, producer.timeout_ns)

    def _end(self, result: str, state: str, until_ns: int) -> None:
        self._state = state
        if self._added or self._asked or self._has_positions:
            cluster, name, number, epoch = self._producer.cluster, self._id, self.producer_id, self.epoch

            def handle(reply: Reply) -> None:
                reply(cluster.transactions.end(name, number, epoch, result), True)

            timeout_s = (until_ns - self._producer.scheduler.now_ns) / 1e9
            answer, last = self._ask("EndTxn", handle, max(0.0, timeout_s))
            if answer is None:
                raise failure(TIMED_OUT, f"no answer to EndTxn: {KafkaError(last).str()}", retriable=True)
        self._state = _NO_TRANSACTION

    def _ask(self, what: str, handle: Callable[[Reply], None], timeout_s: float | None) -> tuple[Any, int]:
        """Ask a coordinator until it answers; requests go on after the call has given up.

        Returns:
            The answer, None where none came in time, and the last code.
        """
        producer, scheduler = self._producer, self._producer.scheduler
        found: list[tuple[int, Any]] = []
        last = TIMED_OUT
        limit_s = _FOR_EVER_S if timeout_s is None else timeout_s
        asks_until_ns = scheduler.now_ns + round(limit_s * 1e9) + producer.timeout_ns
        to_group = what == "TxnOffsetCommit"
        ask = producer.cluster.ask_group_coordinator if to_group else producer.cluster.ask_transaction_coordinator
        sender = Sender(producer.process, what)

        def request() -> None:
            if producer.fatal is None and scheduler.now_ns < asks_until_ns:
                ask(sender, handle, replied, producer.timeout_ns)

        def replied(code: int, value: Any) -> None:
            nonlocal last
            last = code
            if code not in _AGAIN:
                found.append((code, value))
                scheduler.wake(producer.waiters)
                return
            if code == TRANSPORT:
                producer.note_transport(0)
            scheduler.later(_CONCURRENT_RETRY_NS if code == _CONCURRENT else _RETRY_NS, request, producer.process)

        request()
        producer.wait_until(lambda: bool(found) or producer.fatal is not None, limit_s)
        if producer.fatal is not None and not found:
            raise failure(producer.fatal.code(), producer.fatal.str(), fatal=True)
        if not found:
            return None, last
        code, value = found[0]
        if code == OK:
            return value, OK
        if code in _FENCED:
            producer.die(KafkaError._FENCED)
            raise failure(KafkaError._FENCED, fatal=True)
        self._fail(code)
        raise failure(code, abortable=True)
