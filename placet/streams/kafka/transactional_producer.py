"""Kafka's transactional producer, wrapped: the only owner of a transaction, the only translator of its errors.

librdkafka speaks the old transaction protocol even to Kafka 4 (EndTxn version 1), where a delayed request can end the
*next* transaction. So suspicion is enough: after any transport error, any failed call, or a slow commit, the producer
is thrown away; the next one's start fences whatever the old one left behind (Jepsen, Bufstream 0.1.0; KIP-890).
A connection that was closed is no error for librdkafka: see `overheard_log`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, Message
from confluent_kafka import TopicPartition as ClientPartition

from placet.streams.errors import (
    ClockSkew,
    FatalError,
    ProducerFenced,
    TaskMigrated,
    TransactionAborted,
)
from placet.streams.kafka.adaptive_timeout import AdaptiveTimeout
from placet.streams.kafka.client_errors import CLIENT_ERRORS, kafka_reason
from placet.streams.kafka.clients import Clients, ProducerCalls
from placet.streams.kafka.discard import discard
from placet.streams.kafka.marker_pause import MarkerPause
from placet.streams.kafka.overheard_log import TALKATIVE, OverheardLog
from placet.streams.kafka.watchdog import Watchdog
from placet.streams.records import ProducerRecord, TopicPartition
from placet.streams.runtime import Runtime, Spawned

__all__ = ["Transaction", "TransactionalProducer"]

_SLOW_COMMIT_S: Final = 1.0
_CALL_TIMEOUT_S: Final = 10.0
"""Of one call in a transaction, at most: below the watchdog's 20 s, which is for the calls that ignore it."""
_CALL_TIMEOUT_MIN_S: Final = 0.5
_UNKNOWN_S: Final = 4.0
"""Of a commit or a start before the first one that succeeded: a broker that has just begun to work takes its time."""
_KNOWN_S: Final = 1.5
"""And afterwards, where they took some ms: a leader or coordinator that fell silent costs so much once another one is
elected."""
_COMMIT_GROWTH: Final = 2.0
_START_GROWTH: Final = 1.1  # before the election each start is in vain, and the one then must not wait for long
_TRANSACTION_TIMEOUT_MS: Final = 60_000  # librdkafka's default
_TIMEOUT_LEEWAY_S: Final = 0.5
_FENCED: Final = frozenset({KafkaError._FENCED, KafkaError.INVALID_PRODUCER_EPOCH, KafkaError.PRODUCER_FENCED})
_MIGRATED: Final = frozenset({
    KafkaError.ILLEGAL_GENERATION, KafkaError.UNKNOWN_MEMBER_ID, KafkaError.FENCED_INSTANCE_ID,
    KafkaError.STALE_MEMBER_EPOCH, KafkaError.FENCED_MEMBER_EPOCH,
})  # fmt: skip
_LOG_APPEND_TIME: Final = 2
_HOPELESS: Final = {
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED: "grant WRITE on the transactional id",
    KafkaError.TOPIC_AUTHORIZATION_FAILED: "grant WRITE on the gate's topics",
    KafkaError.GROUP_AUTHORIZATION_FAILED: "grant READ on the gate's group",
    KafkaError.INVALID_TRANSACTION_TIMEOUT: "the transaction timeout is above the broker's transaction.max.timeout.ms",
}


class Transaction:
    """One open transaction: records and positions, committed as one or not at all."""

    def __init__(
        self,
        runtime: Runtime,
        producer: ProducerCalls,
        watchdog: Watchdog,
        clock_skew_max_ms: int,
        not_before_s: float = 0.0,
        timeout_s: float = _CALL_TIMEOUT_S,
        patience_s: float = _CALL_TIMEOUT_S,
    ) -> None:
        self.written: dict[TopicPartition, int] = {}
        self.stamped: dict[TopicPartition, tuple[int, float]] = {}  # see `Stamps`
        self.committed = False
        self.sent_at_s = 0.0  # when the first record was
        self.asked_at_s = 0.0  # when the commit was asked for
        self.delivery_s = 0.0  # from then on, until all records were delivered
        self.commit_s = 0.0
        self._producer = producer
        self._watchdog = watchdog
        self._runtime = runtime
        self._clock_skew_max_ms = clock_skew_max_ms
        self._ends_s = runtime.monotonic_s() + timeout_s
        self._patience_s = patience_s
        self._not_before_s = not_before_s
        self._sent_ms = 0
        self._skew_ms = 0
        self._failed = ""
        self.left_behind: Spawned | None = None

    def send(self, records: Iterable[ProducerRecord]) -> None:
        """Add records. The last one's delivery tells the broker's time, and how far each log has come."""
        produce, written = self._producer.produce, list(records)
        self._sent_ms = self._sent_ms or self._runtime.now_ms()
        self._runtime.sleep(max(0.0, self._not_before_s - self._runtime.monotonic_s()))
        self.sent_at_s = self.sent_at_s or self._runtime.monotonic_s()
        last = {(record[0], record[1]): index for index, record in enumerate(written)}
        ends = frozenset(last.values())
        for index, record in enumerate(written):
            topic, partition, key, value, headers = record
            on_delivery = self._delivered if index in ends else None
            try:
                produce(topic, value, key, partition, on_delivery, None, 0, headers)
            except BufferError:
                self._produce_when_there_is_room(record, on_delivery)

    def commit(self, positions: Mapping[TopicPartition, int], metadata: bytes) -> None:
        """Check the clock against the broker's, then commit records and positions.

        Args:
            positions: next position of every input partition of every task in the transaction, even unmoved ones:
                with none of them a zombie's transaction would commit.
            metadata: the group metadata as it was right after the poll.

        Raises:
            ClockSkew: the clock is off; nothing is committed.
            TransactionAborted: it did not commit, or nobody knows.
            TaskMigrated: the group or a newer producer refused it.
        """
        assert positions, "a transaction without positions is not fenced"
        offsets = [ClientPartition(topic, partition, position) for (topic, partition), position in positions.items()]
        self.asked_at_s = self._runtime.monotonic_s()
        # When its timeout is over, the coordinator has aborted the transaction anyway.
        self._ends_s = min(self._ends_s, self.asked_at_s + self._patience_s)
        limit_s = self._limit_s()
        with self._watchdog.armed("flush"):
            left = self._producer.flush(limit_s)
        if left or self._failed:
            raise TransactionAborted(self._failed or f"{left} records were not delivered in {limit_s:.1f} s")
        if abs(self._skew_ms) > self._clock_skew_max_ms:
            way = "ahead of" if self._skew_ms > 0 else "behind"
            raise ClockSkew(
                f"this machine's clock is {abs(self._skew_ms)} ms {way} the broker's; {self._clock_skew_max_ms} ms are "
                "allowed. Nothing was committed. Set the clock (NTP) and start again."
            )
        began_s = self._runtime.monotonic_s()
        self.delivery_s = began_s - self.asked_at_s
        self._send_positions(offsets, metadata)
        self._end()
        self.committed, self.commit_s = True, self._runtime.monotonic_s() - began_s

    def _limit_s(self) -> float:
        """How long a call may take."""
        return max(_CALL_TIMEOUT_MIN_S, self._ends_s - self._runtime.monotonic_s())

    def _send_positions(self, offsets: list[ClientPartition], metadata: bytes) -> None:
        """Send them in a thread of their own, and leave it behind when it is not back in time.

        The call ignores its timeout: when the broker that it takes for the group's coordinator is gone, or does not
        know yet who that is, it waits for a connection to come or go, maybe for ever (librdkafka #5456, #5511).
        """
        failed: list[Exception] = []
        limit_s = self._limit_s()

        def send() -> None:
            try:
                self._producer.send_offsets_to_transaction(offsets, metadata, limit_s)
            except Exception as error:  # noqa: BLE001 - the thread's top: raised again below, where it is judged
                failed.append(error.with_traceback(None))

        sending = self._runtime.spawn("send positions", send)
        sending.join(limit_s)
        if sending.is_alive():
            self.left_behind = sending
            raise TransactionAborted(f"send_offsets_to_transaction: no answer in {limit_s:.1f} s")
        if failed:
            raise failed.pop()  # kept nowhere: with its frames it would keep the producer

    def _end(self) -> None:
        with self._watchdog.armed("commit_transaction"):
            self._producer.commit_transaction(self._limit_s())

    def _produce_when_there_is_room(self, record: ProducerRecord, on_delivery: Any) -> None:
        """Let the full queue drain, then add the record. One deadline for all of the waiting."""
        topic, partition, key, value, headers = record
        with self._watchdog.armed("produce"):
            while True:
                self._producer.poll(0.05)
                with suppress(BufferError):
                    self._producer.produce(topic, value, key, partition, on_delivery, None, 0, headers)
                    return

    def _delivered(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self._failed = f"a record for {message.topic()} was not delivered: {error.str()}"
            return
        key = TopicPartition(message.topic() or "", message.partition() or 0)
        self.written[key] = max(self.written.get(key, 0), (message.offset() or 0) + 1)
        kind, appended_at = message.timestamp()
        if kind == _LOG_APPEND_TIME:
            # The broker's time was read between our two: what lies outside of them is skew, however long that took.
            ahead, behind = self._sent_ms - appended_at, appended_at - self._runtime.now_ms()
            self._skew_ms = max(self._skew_ms, max(ahead, 0) or -max(behind, 0), key=abs)
            self.stamped[key] = (appended_at, self._runtime.monotonic_s())


class TransactionalProducer:
    """A producer with a stable transactional id, remade on any suspicion.

    If the coordinator says that it can't end the last transaction of an id yet, the next producer takes another id: the
    transaction ends when the leader of each partition has the marker, which takes half a minute if a leader went away
    silently. Until then a restore waits for this transaction, as for one that a dead gate left open. In all other cases
    the id stays, because only the next producer with the same id ends an open transaction at once.

    Args:
        clients: makes the producers.
        options: librdkafka's options, transactional.id among them.
        watchdog: ends the process when a transaction call hangs.
        clock_skew_max_ms: how far it may be off the broker's.
    """

    def __init__(
        self, clients: Clients, options: Mapping[str, object], watchdog: Watchdog, clock_skew_max_ms: int
    ) -> None:
        self._options = options
        self._watchdog = watchdog
        self._clients = clients
        self._clock_skew_max_ms = clock_skew_max_ms
        self._producer: ProducerCalls | None = None
        self._suspicion = ""
        self._ended_s = 0.0
        self._markers = MarkerPause()
        self._timeout_s = int(str(options.get("transaction.timeout.ms", _TRANSACTION_TIMEOUT_MS))) / 1000
        name = str(options["transactional.id"])
        self._ids = deque([name, f"{name}:2", f"{name}:3"])  # no gate's name has a colon
        self._with_start = AdaptiveTimeout(_UNKNOWN_S, _KNOWN_S, _CALL_TIMEOUT_S, _START_GROWTH)
        self._with_commit = AdaptiveTimeout(_UNKNOWN_S, _KNOWN_S, _CALL_TIMEOUT_S, _COMMIT_GROWTH)

    def start(self) -> None:
        """Make the producer and fence every earlier one of the same transactional id; at once when it runs already.

        Raises:
            FatalError: the broker will never take it, such as for want of rights.
            TransactionAborted: not reachable in time; try again.
        """
        if self._producer is not None and not self._suspicion:
            return
        self.abandon()
        self._suspicion = ""
        own = {
            "transactional.id": self._ids[0],
            "error_cb": lambda error: self._suspect(error.str() or "transport error"),
            "logger": OverheardLog(self._suspect, self._options.get("logger")),
            **TALKATIVE,
        }
        self._producer = self._clients.producer({**self._options, **own})
        began_s = self._clients.monotonic_s()
        try:
            with self._watchdog.armed("init_transactions"):
                self._producer.init_transactions(self._with_start.limit_s)
        except CLIENT_ERRORS as error:
            if kafka_reason(error).code() == KafkaError.CONCURRENT_TRANSACTIONS:
                self._ids.rotate(-1)
            self._with_start.in_vain()
            raise self._translated(error, "init_transactions") from error
        self._with_start.answered(self._clients.monotonic_s() - began_s)
        self._suspicion = ""  # connecting is noisy; what counts is what happens from here on

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Open a transaction; it is aborted on any exception, and when it was not committed.

        Raises:
            TransactionAborted, TaskMigrated, ClockSkew, FatalError: see `Transaction.commit`.
        """
        self.serve()  # what became known of the last transaction decides whether the next one has the same producer
        self.start()
        producer = self._producer
        assert producer is not None, "start() made it"
        transaction = Transaction(
            self._clients, producer, self._watchdog, self._clock_skew_max_ms, self._ended_s + self._markers.pause_s,
            self._timeout_s, self._with_commit.limit_s,
        )  # fmt: skip
        began_s = self._clients.monotonic_s()
        try:
            producer.begin_transaction()
            yield transaction
        except CLIENT_ERRORS as error:
            raise self._translated(error, "transaction", self._outlived(began_s)) from error
        finally:
            before_s, self._ended_s = self._ended_s, self._clients.monotonic_s()
            if transaction.committed:
                self._markers.learn(transaction.sent_at_s - before_s, transaction.delivery_s)
                self._with_commit.answered(self._ended_s - transaction.asked_at_s)
            else:
                self.abandon(transaction.left_behind)
                if transaction.asked_at_s:
                    self._with_commit.in_vain()
            if transaction.commit_s > _SLOW_COMMIT_S:
                self._suspicion = "slow commit"

    def serve(self) -> None:
        """Let errors be noticed while nothing is written: the next transaction then begins with a new producer.

        Raises:
            TransactionAborted, TaskMigrated, FatalError: librdkafka says that the producer is of no use any more.
        """
        if self._producer is not None:
            try:
                self._producer.poll(0)
            except CLIENT_ERRORS as error:
                raise self._translated(error, "producer") from error

    def abandon(self, left_behind: Spawned | None = None) -> None:
        """Throw the producer away. What it left open is aborted, by itself or by the next one, or times out.

        Args:
            left_behind: a call that still uses the producer.
        """
        producer, self._producer = self._producer, None
        if producer is not None:
            discard(self._clients, producer, left_behind, _CALL_TIMEOUT_S)

    def _suspect(self, why: str) -> None:
        self._suspicion = why

    def _outlived(self, began_s: float) -> bool:
        """Tell whether a transaction is older than its timeout: then the coordinator fences it, and no other gate."""
        return self._clients.monotonic_s() - began_s > self._timeout_s - _TIMEOUT_LEEWAY_S

    def _translated(self, error: KafkaException | SystemError, call: str, outlived: bool = False) -> Exception:  # noqa: FBT001
        reason = kafka_reason(error)
        if reason.code() == KafkaError._FATAL:
            reason = self._why_fatal() or reason
        self._suspicion = f"{call}: {reason.str()}"
        if reason.code() in _HOPELESS:
            return FatalError(f"{call}: {reason.str()}: {_HOPELESS[reason.code()]}")
        if reason.code() in _FENCED and outlived:
            return TransactionAborted(f"{call}: it outlived its timeout: {reason.str()}")
        if reason.code() in _FENCED:
            return ProducerFenced(f"{call}: {reason.str()}")
        if reason.code() in _MIGRATED:
            return TaskMigrated(f"{call}: {reason.str()}")
        return TransactionAborted(f"{call}: {reason.str()}")

    def _why_fatal(self) -> KafkaError | None:
        """Return the error that `produce` calls fatal and does not name: the next poll tells it, once."""
        try:
            if self._producer is not None:
                self._producer.poll(0)
        except CLIENT_ERRORS as error:
            return kafka_reason(error)
        return None
