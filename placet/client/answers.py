"""Those who wait for decisions, by entity and by the input's id."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from threading import Lock

from placet.schemas.codec import Codec
from placet.schemas.decision import Decision
from placet.schemas.errors import DecodeError, PlacetError
from placet.streams.records import ConsumerRecord

__all__ = ["Answers"]


class Answers:
    """Finds the decisions that somebody waits for among all that the gate takes. Others' are not even decoded.

    Callers expect in their threads; only the I/O thread answers.

    Args:
        codec: decodes decisions.
        tell: is told of an answer before those who wait for it: what they read next must not be older than that.
    """

    def __init__(self, codec: Codec, tell: Callable[[Decision], None] = lambda _: None) -> None:
        self._codec = codec
        self._tell = tell
        self._expected: dict[bytes, dict[str, Future[Decision]]] = {}
        self._lock = Lock()

    def expect(self, entity_id: str, input_id: str) -> Future[Decision]:
        """Return the decision to come; all who wait for the same input share it."""
        with self._lock:
            of_entity = self._expected.setdefault(entity_id.encode(), {})
            answer = of_entity.get(input_id)
            if answer is None:
                answer = of_entity[input_id] = Future()
                answer.set_running_or_notify_cancel()  # one who gives up must not end it for the others
            return answer

    def drop(self, entity_id: str, input_id: str, answer: Future[Decision]) -> None:
        """Wait for it no longer."""
        key = entity_id.encode()
        with self._lock:
            of_entity = self._expected.get(key, {})
            if of_entity.get(input_id) is answer:
                del of_entity[input_id]
            if not of_entity:
                self._expected.pop(key, None)

    def take(self, record: ConsumerRecord) -> None:
        """Take in a record of the decisions."""
        of_entity = self._expected.get(record.key or b"")
        if not of_entity or record.value is None:
            return
        try:
            decision, _ = self._codec.decode_decision(record.value)
        except DecodeError:  # of a later release: whoever waits for it is told by the time limit
            return
        answer = of_entity.get(decision.input_id)
        if answer is None:
            return
        self.drop((record.key or b"").decode(), decision.input_id, answer)
        self._tell(decision)
        answer.set_result(decision)

    def fail(self, entity_id: str, input_id: str, error: PlacetError) -> None:
        """Tell those who wait for this input that it was not sent."""
        answer = self._expected.get(entity_id.encode(), {}).get(input_id)
        if answer is not None:
            self.drop(entity_id, input_id, answer)
            answer.set_exception(error)

    def fail_all(self, error: PlacetError) -> None:
        """Tell all who wait that nothing will come."""
        for key, of_entity in list(self._expected.items()):
            for input_id in list(of_entity):
                self.fail(key.decode(), input_id, error)

    def __len__(self) -> int:
        """How many decisions are waited for."""
        return sum(map(len, self._expected.values()))
