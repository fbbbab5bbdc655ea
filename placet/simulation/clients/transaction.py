"""The transactional half of a simulated producer: its calls, and the requests to coordinators that they wait for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka import TopicPartition as ClientPartition

from placet.simulation.brokers.cluster import OK
from placet.simulation.brokers.log import ABORT, COMMIT
from placet.simulation.brokers.network import TIMED_OUT, TRANSPORT, Reply, Sender
from placet.simulation.clients.message import failure
from placet.simulation.clients.request import AGAIN, CONCURRENT, CoordinatorRequest, pause_ns
from placet.streams.kafka.membership import membership

if TYPE_CHECKING:
    from placet.simulation.clients.producer import SimulatedProducer

__all__ = ["ProducerTransaction"]

_AT_ONCE_NS: Final = 1_000_000
_FENCED: Final = int(KafkaError._FENCED)
_FATAL: Final = {
    int(KafkaError.INVALID_PRODUCER_EPOCH): _FENCED,
    int(KafkaError.PRODUCER_FENCED): _FENCED,
    **{code: code for code in map(int, (KafkaError.INVALID_TXN_STATE, KafkaError.INVALID_TRANSACTION_TIMEOUT))},
}
"""Refusals by a coordinator after which the producer is of no use, and what the client calls them."""
_MAY_HAVE_ARRIVED: Final = frozenset({OK, TRANSPORT, TIMED_OUT})
_NO_TRANSACTION: Final = "none"
_OPEN: Final = "open"
_FLUSHING: Final = "flushing before the commit"
_COMMITTING: Final = "committing"
_DROPPING: Final = "dropping before the abort"
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
        self._asked: dict[At, None] = {}
        self._adding = False
        self._known = False  # whether the coordinator may have heard of this transaction
        self._undelivered = 0
        self._call = ""  # that is under way, or timed out
        self._in_flush = False
        self._request: CoordinatorRequest | None = None  # of a call that may be called again

    # -- calls ---------------------------------------------------------------------------------------------------------

    def init(self, timeout_s: float) -> None:
        """Ask for an id and an epoch until there is an answer."""
        with self._calling("init_transactions"):
            self._require("")
            cluster, name, timeout_ns = self._producer.cluster, self._id, self._timeout_ns

            def handle(reply: Reply) -> None:
                code, producer_id, epoch = cluster.transactions.init(name, timeout_ns)
                reply(code, (producer_id, epoch))

            until_ns = self._until_ns(timeout_s)
            if self._request is None:
                self._request = CoordinatorRequest(self._producer, "InitProducerId", handle, until_ns)
            self.producer_id, self.epoch = self._answer(self._request, until_ns)
            self._producer.sending.new_epoch()
            self._state = _NO_TRANSACTION

    def begin(self) -> None:
        """Open a transaction: no broker hears of it before there is something in it."""
        with self._calling("begin_transaction", resumable=False):
            self._require(_NO_TRANSACTION)
            self._state, self._failure, self._undelivered = _OPEN, 0, 0
            self._added.clear()
            self._asked.clear()
            self._known = False

    def send_positions(self, positions: list[ClientPartition], metadata: Any, timeout_s: float) -> None:
        """Add positions. The timeout counts only when something is heard (librdkafka #5456)."""
        with self._calling("send_offsets_to_transaction", resumable=False):
            moved = {(at.topic, at.partition): at.offset for at in positions}
            if moved:
                self._require(_OPEN)
                self._send_positions(moved, bytes(metadata), self._until_ns(timeout_s))

    def commit(self, timeout_s: float) -> None:
        """Wait for all deliveries, then for the coordinator's word."""
        with self._calling("commit_transaction"):
            self._require(_OPEN, _FLUSHING, _COMMITTING)
            until_ns = self._until_ns(timeout_s)
            if self._state != _COMMITTING:
                self._state = _FLUSHING
                self._flush(until_ns)
                self._require(_FLUSHING)
                if self._undelivered:
                    raise self._failed(int(KafkaError._INCONSISTENT))
            self._end(COMMIT, _COMMITTING, until_ns)

    def abort(self, timeout_s: float) -> None:
        """Drop what waits, wait for what is under way, then for the coordinator's word."""
        with self._calling("abort_transaction"):
            self._require(_OPEN, _FAILED, _DROPPING, _ABORTING)
            until_ns = self._until_ns(timeout_s)
            if self._state != _ABORTING:
                self._state = _DROPPING
                self._asked.clear()
                self._producer.sending.drop_queued()
                self._flush(until_ns)
            self._end(ABORT, _ABORTING, until_ns)

    # -- for the producer ----------------------------------------------------------------------------------------------

    def check_open(self) -> None:
        """Raise what `produce` raises outside of a transaction."""
        if self._state != _OPEN:
            raise failure(KafkaError._STATE)

    def add(self, at: At) -> None:
        """Make a partition part of the transaction, soon."""
        if at not in self._added and at not in self._asked:
            self._asked[at] = None
            self._add_after(0 if self._producer.cluster.network.near else _AT_ONCE_NS)

    def may_send(self, at: At) -> bool:
        """Tell whether a partition is in the transaction. When it comes in, what waits for it is sent."""
        return at in self._added

    def not_delivered(self) -> None:
        """A record was not delivered: the transaction can't commit."""
        self._undelivered += 1

    def refused(self, code: int) -> None:
        """A leader refused a batch."""
        if _FATAL.get(code) == _FENCED:
            self._producer.die(_FENCED)
        else:
            self._failed(code)

    # -- inside --------------------------------------------------------------------------------------------------------

    @contextmanager
    def _calling(self, name: str, *, resumable: bool = True) -> Iterator[None]:
        """One call at a time; one that timed out, or was interrupted amid its flush, goes before any other."""
        self._producer.process.check()
        if self._call not in ("", name):
            raise failure(KafkaError._CONFLICT, f"Conflicting {self._call} API call is in progress", retriable=True)
        self._call, self._in_flush = name, False
        try:
            yield
        except KafkaException as error:
            if not (resumable and (error.args[0].retriable() or self._in_flush)):
                self._call, self._request = "", None
            raise
        self._call, self._request = "", None

    def _until_ns(self, timeout_s: float) -> int:
        scheduler = self._producer.scheduler
        return scheduler.now_ns + (round(timeout_s * 1e9) if timeout_s >= 0 else self._timeout_ns)

    def _require(self, *states: str) -> None:
        fatal = self._producer.fatal
        if fatal is not None:
            raise failure(fatal.code(), fatal.str(), fatal=True)
        if self._state not in states:
            if self._state == _FAILED:
                raise failure(self._failure, abortable=True)
            raise failure(KafkaError._STATE, f"Operation not valid in state {self._state or 'init'}")

    def _failed(self, code: int) -> Any:
        """Only an abort is of use now. Returns what a call raises."""
        if self._state in (_OPEN, _FLUSHING, _COMMITTING):
            self._state, self._failure = _FAILED, code
            self._producer.sending.drop_queued()
        self._producer.scheduler.wake(self._producer.waiters)
        return failure(code, abortable=True)

    def _flush(self, until_ns: int) -> None:
        self._in_flush = True
        if not self._producer.deliver_all(until_ns):
            raise failure(TIMED_OUT, "Failed to flush all outstanding messages", retriable=True)
        self._in_flush = False

    def _add_after(self, delay_ns: int) -> None:
        if not self._adding:
            self._adding = True
            self._producer.scheduler.later(delay_ns, self._add, self._producer.process)

    def _add(self) -> None:
        """Add partitions to the transaction at its coordinator, as librdkafka's thread does."""
        producer = self._producer
        if not self._asked or self._state not in (_OPEN, _FLUSHING) or producer.fatal is not None:
            self._adding = False
            return
        places, cluster = sorted(self._asked), producer.cluster
        name, number, epoch = self._id, self.producer_id, self.epoch

        def handle(reply: Reply) -> None:
            reply(cluster.transactions.add(name, number, epoch, places, cluster.scheduler.now_ns), None)

        def replied(code: int, value: Any) -> None:
            self._adding = False
            producer.note_failure(0, code, value)
            if code in AGAIN:
                self._add_after(pause_ns(code))
            elif code in _FATAL:
                producer.die(_FATAL[code])
            elif code != OK:
                self._failed(code)
            else:
                self._added.update(at for at in places if at in self._asked)
                self._asked = {at: None for at in self._asked if at not in self._added}
                if self._asked:
                    self._add_after(_AT_ONCE_NS)
                producer.sending.send_what_waits()

        self._known = True
        sender = Sender(producer.process, "AddPartitionsToTxn", places)
        cluster.ask_transaction_coordinator(sender, handle, replied, producer.timeout_ns)

    def _send_positions(self, moved: dict[At, int], metadata: bytes, until_ns: int) -> None:
        scheduler, cluster = self._producer.scheduler, self._producer.cluster
        name, number, epoch, now_ns = self._id, self.producer_id, self.epoch, scheduler.now_ns
        until_ns = min(until_ns, now_ns + self._timeout_ns)
        group = metadata[11:].partition(b"\0")[0].decode()
        member_epoch, member_id = membership(metadata)

        def add(reply: Reply) -> None:
            reply(cluster.transactions.add(name, number, epoch, [(group, -1)], now_ns), True)

        def store(reply: Reply) -> None:
            code = cluster.group(group).check(member_id, member_epoch, moved, transactional=True)
            code = code or cluster.transactions.check_write(number, epoch, (group, -1))
            if code == OK:
                cluster.group(group).store_in_transaction(number, moved)
            reply(code, True)

        added = CoordinatorRequest(self._producer, "AddOffsetsToTxn", add, until_ns)
        try:
            self._answer(added)
        finally:
            self._known = self._known or added.last in _MAY_HAVE_ARRIVED
        if scheduler.now_ns >= until_ns:
            raise failure(TIMED_OUT, "Failed to add offsets to transaction", retriable=True)
        self._answer(CoordinatorRequest(self._producer, "TxnOffsetCommit", store, until_ns))

    def _end(self, result: str, state: str, until_ns: int) -> None:
        if self._state != state and self._known:
            cluster, name, number, epoch = self._producer.cluster, self._id, self.producer_id, self.epoch

            def handle(reply: Reply) -> None:
                reply(cluster.transactions.end(name, number, epoch, result), True)

            self._state = state
            self._request = CoordinatorRequest(self._producer, "EndTxn", handle, until_ns)
        if self._state == state and self._request is not None:
            self._answer(self._request, until_ns)
        self._state = _NO_TRANSACTION

    def _answer(self, request: CoordinatorRequest, until_ns: int | None = None) -> Any:
        """Wait for an answer, without end by default. Return it, or raise what it calls for."""
        producer = self._producer
        if until_ns is not None:
            request.until_ns = until_ns
        wait_s = _FOR_EVER_S if until_ns is None else (until_ns - producer.scheduler.now_ns) / 1e9
        producer.wait_until(lambda: request.answer is not None or producer.fatal is not None, wait_s)
        if request.answer is None:
            self._require(self._state)  # raises what is fatal
            told = CONCURRENT if (self._state, request.last) == ("", CONCURRENT) else TIMED_OUT
            raise failure(told, f"no answer to {request.what}: {KafkaError(request.last).str()}", retriable=True)
        code, value = request.answer
        if code == OK:
            return value
        if code in _FATAL:
            producer.die(_FATAL[code])
            raise failure(_FATAL[code], fatal=True)
        if code in AGAIN and request.what == "AddOffsetsToTxn":
            raise failure(code, retriable=True)
        raise self._failed(code)
