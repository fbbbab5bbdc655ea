"""Futures of decisions, found by the input's topic, partition and offset: senders choose ids, so an id is no key."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from threading import Lock
from typing import Final

from placet.schemas.codec.codec import Codec
from placet.schemas.decision import Decision
from placet.schemas.errors import DecodeError, PlacetError
from placet.streams.records import ConsumerRecord, RecordId

__all__ = ["EARLY_MAX", "Answers"]

EARLY_MAX: Final = 1_000
"""How many decisions on one entity are kept while it is not known yet where an input of ours lies."""


class Answers:
    """Finds, among all decisions, those that a caller waits for. Decisions on other entities are not decoded.

    Callers' threads call `expect`; only the I/O thread calls the rest. A decision may come before the delivery report
    of its input: it is kept until the report comes.

    Attributes:
        unread: why a decision that may be waited for could not be read; "" where all could.

    Args:
        codec: decodes decisions.
        tell: gets a decision before its waiters do, so that their next read is not older than the decision.
        goes_by: tells whether a digest is that of the rules that this client goes by.
    """

    def __init__(
        self,
        codec: Codec,
        tell: Callable[[Decision], None] = lambda _: None,
        goes_by: Callable[[bytes], bool] = lambda _: True,
    ) -> None:
        self.unread = ""
        self._codec = codec
        self._tell = tell
        self._goes_by = goes_by
        self._waiting: dict[bytes, dict[Future[Decision], RecordId | None]] = {}
        self._placed: dict[RecordId, Future[Decision]] = {}
        self._early: dict[bytes, dict[RecordId, Decision]] = {}
        self._lock = Lock()

    def expect(self, entity_id: str) -> Future[Decision]:
        """Return the decision to come on an input that is about to be sent."""
        answer: Future[Decision] = Future()
        answer.set_running_or_notify_cancel()  # one who gives up must not end it for the others
        with self._lock:
            self._waiting.setdefault(entity_id.encode(), {})[answer] = None
        return answer

    def place(self, entity_id: str, answer: Future[Decision], place: RecordId) -> None:
        """Note the place of the input for whose decision somebody waits."""
        key = entity_id.encode()
        with self._lock:
            of_entity = self._waiting.get(key, {})
            if answer not in of_entity:
                return
            of_entity[answer] = place
        self._placed[place] = answer
        decision = self._early.get(key, {}).get(place)
        if decision is not None:
            self._settle(key, answer, decision)
        self._forget_early(key)

    def drop(self, entity_id: str, answer: Future[Decision]) -> None:
        """Stop waiting for this answer."""
        key = entity_id.encode()
        self._remove(key, answer)
        self._forget_early(key)

    def take(self, record: ConsumerRecord) -> None:
        """Take in a record of the decisions."""
        key = record.key or b""
        of_entity = self._waiting.get(key)
        if not of_entity or record.value is None:
            return
        try:
            decision, at = self._codec.decode_decision(record.value)
        except DecodeError as error:  # of a later release: whoever waits for it is told with the time limit
            self.unread = str(error)
            return
        if decision.timer is not None:  # nobody sent it
            return
        decision.by_other_rules = not self._goes_by(at.definition_digest)
        place = RecordId(at.topic, at.partition, at.offset)
        answer = self._placed.get(place)
        if answer is not None:
            self._settle(key, answer, decision)
        elif self._is_unplaced(key):
            early = self._early.setdefault(key, {})
            early[place] = decision
            if len(early) > EARLY_MAX:
                del early[next(iter(early))]

    def fail(self, entity_id: str, answer: Future[Decision], error: PlacetError) -> None:
        """Tell those who wait for this input that it was not sent."""
        if self._remove(entity_id.encode(), answer):
            answer.set_exception(error)
        self._forget_early(entity_id.encode())

    def fail_all(self, error: PlacetError) -> None:
        """Tell all who wait that nothing will come."""
        for key, of_entity in list(self._waiting.items()):
            for answer in list(of_entity):
                self.fail(key.decode(), answer, error)

    def __len__(self) -> int:
        """How many decisions are waited for."""
        return sum(map(len, self._waiting.values()))

    def _settle(self, key: bytes, answer: Future[Decision], decision: Decision) -> None:
        self._remove(key, answer)
        self._tell(decision)
        answer.set_result(decision)

    def _remove(self, key: bytes, answer: Future[Decision]) -> bool:
        with self._lock:
            of_entity = self._waiting.get(key, {})
            known = answer in of_entity
            place = of_entity.pop(answer, None)
            if not of_entity:
                self._waiting.pop(key, None)
        if place is not None:
            del self._placed[place]
        return known

    def _is_unplaced(self, key: bytes) -> bool:
        with self._lock:
            return None in self._waiting.get(key, {}).values()

    def _forget_early(self, key: bytes) -> None:
        """Keep no decisions of an entity of which every input has its place."""
        if key in self._early and not self._is_unplaced(key):
            del self._early[key]
