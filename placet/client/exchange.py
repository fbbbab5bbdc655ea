"""The client's own thread: all traffic with Kafka is here, except that callers' threads hand records to the producer.

callers' threads ──send──► producer ──► signals, proposals          never waits
                 ──read──► mirror   ◄── changelog   ┐
                 ◄─future─ answers  ◄── decisions   ├── the thread: one consumer, one producer's reports
                           rulebook ◄── control     ┘
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from queue import SimpleQueue
from threading import Event, Thread
from time import monotonic, time
from typing import Any, Final, NamedTuple

from placet.client.answers import Answers
from placet.client.connect import connect, producer_options, read_rulebook, reader_options
from placet.client.errors import NotConnected, NotDelivered
from placet.client.link import Link, follow
from placet.client.mirror import Mirror
from placet.schemas.decision import Decision
from placet.schemas.definition.model import Definition
from placet.schemas.errors import PlacetError
from placet.schemas.messages import Kind, Message
from placet.streams.errors import LogUnreachable
from placet.streams.host import LocalHost
from placet.streams.kafka.admin import Admin
from placet.streams.kafka.log_reader import LogReader
from placet.streams.kafka.plain_producer import DurableProducer
from placet.streams.records import ConsumerRecord, Headers, ProducerRecord, RecordId, TopicPartition
from placet.streams.settings import Settings

__all__ = ["Exchange", "Sent"]

_BUSY_MS: Final = 2
"""How long a poll waits while reports of the producer are due: they can't end it."""
_IDLE_MS: Final = 20
_SAME_OUTAGE_S: Final = 10.0
_ASK_AGAIN_S: Final = 10.0
"""How long a registry that does not have the schemas of new rules, or does not answer, is not asked again."""
_MISSED_MAX_S: Final = 12 * 3_600.0
"""Of what was deleted longer ago there may be no tombstone any more (they stay 24 h by default)."""
_LOG: Final = logging.getLogger("placet.client")


class Sent(NamedTuple):
    """The two futures of a record that was sent: it is durable; it is decided."""

    durable: Future[None]
    answer: Future[Decision] | None


class Exchange:
    """One entity type's traffic.

    Attributes:
        link: the rules in force and the topics. Another object once the rules change: take it once for each message.

    Args:
        settings: where Kafka is.
        wanted: the entity type's name, or a definition for the time until one is in force.
        connect_timeout_s: how long to wait for topics and definition.
    """

    link: Link
    mirror: Mirror
    answers: Answers

    def __init__(self, settings: Settings, wanted: Definition | str, connect_timeout_s: float) -> None:
        self.opened: Future[None] = Future()
        self.opened.set_running_or_notify_cancel()
        self._settings = settings
        self._wanted = wanted
        self._connect_timeout_s = connect_timeout_s
        self._closing = Event()
        self._requests: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._asked_rules: SimpleQueue[Future[None]] = SimpleQueue()
        self._answering = False
        self._away = self._given_up = False
        self._found_at_s = -math.inf
        self._ask_again_at_s = math.inf
        self._kept_up_s = time()
        self._followed: set[TopicPartition] = set()  # of the changelog
        self._ended: PlacetError | None = None
        self._thread = Thread(target=self._run, name="placet-client", daemon=True)

    def start(self) -> None:
        """Begin to connect; `opened` tells how it went.

        Raises:
            NotConnected: it was started before.
        """
        if self._thread.ident is not None:
            raise NotConnected("a client is opened once: make a new one")
        self._thread.start()

    def end(self) -> None:
        """Ask the thread to send the records in its queue and to end. Callers that still wait get `NotConnected`."""
        self._closing.set()

    def close(self) -> None:
        """End, and wait for that."""
        self.end()
        if self._thread.is_alive():
            self._thread.join()

    def send(self, message: Message, value: bytes, headers: Headers, *, answered: bool) -> Sent:
        """Send a message. If an answer is asked for, the reader of decisions gets its positions before that.

        Raises:
            NotConnected: the thread has ended.
            LogUnreachable: the producer's queue is full.
        """
        self.check()
        durable: Future[None] = Future()
        durable.set_running_or_notify_cancel()
        topics = self.link.topics
        topic = topics.signals if message.kind is Kind.SIGNAL else topics.proposals
        record = ProducerRecord(topic, -1, message.entity_id.encode(), value, headers)
        answer = self.answers.expect(message.entity_id) if answered else None
        delivered = partial(self._delivered, message, durable, answer)
        if answered and not self._answering:
            self._requests.put(partial(self._send_answered, record, delivered))
            return Sent(durable, answer)
        try:
            self._producer.send(record, delivered)
        except LogUnreachable:
            if answer is not None:
                self.forget(message, answer)
            raise
        return Sent(durable, answer)

    def forget(self, message: Message, answer: Future[Decision]) -> None:
        """Stop expecting an answer. Takes no lock: the garbage collector calls it, at any moment, in any thread."""
        self._requests.put(partial(self.answers.drop, message.entity_id, answer))

    def read_rules(self) -> Future[None]:
        """Read the control topic to its end, asked now: for whoever met a schema that is not known.

        Raises:
            NotConnected: the thread has ended.
        """
        self.check()
        read: Future[None] = Future()
        read.set_running_or_notify_cancel()
        self._asked_rules.put(read)
        self._requests.put(self._read_rules)
        return read

    def check(self) -> None:
        """Raise NotConnected when nothing is read or sent any more."""
        if self._ended is not None:
            raise NotConnected(f"the client has ended: {self._ended}") from self._ended

    # -- in the thread -------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        error: PlacetError = NotConnected("a bug ended its thread, see stderr")
        try:
            with Admin(LocalHost(), self._settings.librdkafka()) as admin:
                self._open(admin)
                self._serve()
            error = NotConnected("it was closed")
        except PlacetError as found:
            error = found
        finally:
            self._end(error)

    def _open(self, admin: Admin) -> None:
        self._admin = admin
        self.link = connect(self._settings, admin, self._wanted, self._connect_timeout_s, self._closing.wait)
        _say_what_is_beyond(self.link)
        topics, codec = self.link.topics, self.link.codec
        self.mirror = Mirror(self.link.definition, codec, self.link.partitions, self._request_load)
        self.answers = Answers(codec, self.mirror.tell, self._goes_by)
        self._takers: dict[str, Callable[[ConsumerRecord], None]] = {
            topics.changelog: self.mirror.take,
            topics.decisions: self.answers.take,
            self.link.rulebook.topic: self._take_rules,
        }
        heard = {"error_cb": self._lost}
        self._producer = DurableProducer(LocalHost(), {**producer_options(self._settings), **heard})
        self._reader = LogReader(LocalHost(), reader_options(self._settings, "reader", **heard), self._takers)
        self._reader.follow_also({TopicPartition(self.link.rulebook.topic, 0): self.link.rulebook.position})
        self.opened.set_result(None)

    def _serve(self) -> None:
        under_way = 0
        while under_way or not self._closing.is_set() or not self._requests.empty():
            self._keep_up()
            self._meet_requests()
            records, ends = self._reader.take(_BUSY_MS if under_way else _IDLE_MS)
            if records or ends:
                self._found()
            for record in records:
                self._takers[record.topic](record)
            for end in ends:
                if end.topic == self.link.topics.changelog:
                    self.mirror.reached_end(end.partition)
            if monotonic() > self._ask_again_at_s:
                self._follow_rules()
            under_way = self._producer.serve()

    def _keep_up(self) -> None:
        """Read the states anew where tombstones may be missed: the machine slept, or no broker answered for long.

        The wall clock tells: the other one stands still while a machine sleeps.
        """
        now_s = time()
        missed = now_s - self._kept_up_s > _MISSED_MAX_S
        if missed and self._followed:
            followed, self._followed = self._followed, set()
            self._reader.leave(followed)
            self.mirror.begin_again()
            for partition in sorted(followed):
                self._request_load(partition.partition)
        if missed or not self._away:
            self._kept_up_s = now_s

    def _meet_requests(self) -> None:
        for _ in range(self._requests.qsize()):  # those that ask again wait for the next turn
            self._requests.get_nowait()()

    def _request_load(self, partition: int) -> None:
        self._requests.put(partial(self._load, TopicPartition(self.link.topics.changelog, partition)))

    def _load(self, partition: TopicPartition) -> None:
        try:
            self._reader.follow_also(self._admin.earliest_offsets([partition]))
            self._followed.add(partition)
        except LogUnreachable:  # whoever reads has a time limit
            if not self._closing.is_set():
                self._request_load(partition.partition)

    def _send_answered(self, record: ProducerRecord, delivered: Callable[[str, RecordId | None], None]) -> None:
        if self._given_up:
            delivered("the client was closed while no broker answered", None)
            return
        try:
            if not self._answering:
                topic, partitions = self.link.topics.decisions, range(self.link.partitions)
                ends = self._admin.latest_offsets(TopicPartition(topic, number) for number in partitions)
                self._reader.follow_also(ends)
                self._answering = True
            self._producer.send(record, delivered)
        except LogUnreachable as error:
            self._given_up = self._closing.is_set()  # one try takes seconds, and many may wait behind this one
            delivered(str(error), None)

    def _delivered(
        self,
        message: Message,
        durable: Future[None],
        answer: Future[Decision] | None,
        failure: str,
        place: RecordId | None,
    ) -> None:
        if place is not None:
            self._found()
            durable.set_result(None)
            if answer is not None:
                self.answers.place(message.entity_id, answer, place)
            return
        error = NotDelivered(
            f"`{message.name}` ({message.input_id}) of {message.entity_id} was not confirmed: {failure}. Sending it "
            "again with the same id and key is safe."
        )
        durable.set_exception(error)
        if answer is not None:
            self.answers.fail(message.entity_id, answer, error)

    def _lost(self, error: Any) -> None:
        """Note that no broker is connected (librdkafka has logged which broker was lost, and why).

        Reader and producer come back one after the other: what one of them says soon after the other was answered is
        of the same outage.
        """
        if monotonic() - self._found_at_s > _SAME_OUTAGE_S:
            self._away |= error.name() == "_ALL_BROKERS_DOWN"

    def _found(self) -> None:
        if self._away:
            self._away, self._found_at_s = False, monotonic()
            _LOG.warning("Kafka answers again")

    def _take_rules(self, record: ConsumerRecord) -> None:
        if record.offset >= self.link.rulebook.position:  # else `read_rules` came first
            self.link.rulebook.take([record], record.offset + 1)
            self._follow_rules()

    def _read_rules(self) -> None:
        """Read once for all who have asked by now."""
        asked = self._who_asked()
        if not asked:
            return
        error: LogUnreachable | None = None
        try:
            read_rulebook(self._settings, self._admin, self.link.rulebook)
            self._follow_rules()
        except LogUnreachable as found:
            error = found
        for read in asked:
            read.set_result(None) if error is None else read.set_exception(error)

    def _who_asked(self) -> list[Future[None]]:
        return [self._asked_rules.get_nowait() for _ in range(self._asked_rules.qsize())]

    def _follow_rules(self) -> None:
        """Go by what the rulebook holds now. What can't be used leaves everything as it is, and is told once."""
        before, self._ask_again_at_s = self.link, math.inf
        try:
            self.link = follow(before, self._settings, self._wanted)
        except PlacetError as error:  # of the registry
            self._ask_again_at_s = monotonic() + _ASK_AGAIN_S
            why = f"the rules in force of `{before.definition.entity}` can't be used here yet: {error}"
            self.link = replace(before, beyond=why)
        now = self.link
        if now.definition is not before.definition:
            self.mirror.use(now.definition, now.codec)
            _LOG.info("`%s` is decided by version %d from now on", now.definition.entity, now.definition.version)
        if now.beyond != before.beyond:
            _say_what_is_beyond(now)
        self.mirror.serve_all()

    def _goes_by(self, digest: bytes) -> bool:
        return digest == self.link.definition.digest

    def _end(self, error: PlacetError) -> None:
        self._ended = error
        if not self.opened.done():
            self.opened.set_exception(error)
            return
        self.mirror.fail(error)
        self.answers.fail_all(error)
        for read in self._who_asked():
            read.set_exception(error)
        self._reader.close()
        self._producer.close(timeout_s=5.0)


def _say_what_is_beyond(link: Link) -> None:
    if link.beyond:
        version = link.definition.version
        _LOG.warning("%s. This client reads and proposes by version %d, and foretells nothing", link.beyond, version)
