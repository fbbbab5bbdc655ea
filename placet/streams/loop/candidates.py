"""Whether this gate could run what somebody is about to publish: it is asked, and answers, beside its loop.

    <app>.gates: candidate ──► compile it, as if it were in force ──► answer

In a thread of its own: to compile takes a moment, a registry may take seconds, and so may the broker that takes the
answer. Who asks, asks again every few seconds, so an answer that could not be written is not tried again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from placet.processors.ladder import LADDER
from placet.schemas.codec.control import decode_control
from placet.schemas.codec.gates import GateAnswer, answer_key, candidate_of, encode_answer
from placet.schemas.errors import DecodeError, PlacetError
from placet.streams.errors import LogUnreachable
from placet.streams.kafka.log_reader import LogReader
from placet.streams.loop.observer import Observer
from placet.streams.loop.rules_in_force import RulesInForce
from placet.streams.records import ConsumerRecord, TopicPartition
from placet.streams.runtime import Runtime

__all__ = ["Candidates"]

_TAKE_MS: Final = 5_000
_AGAIN_S: Final = 1.0
_AFTER_REFUSAL_S: Final = 30.0
_TOO_OLD: Final = "its release can't read it ({error}): it is written by a later one"


class Candidates:
    """Listens until the rules are closed.

    Args:
        runtime: a thread.
        make_reader: makes a reader of the topic; used by the thread alone.
        partition: the topic's.
        position: where to begin: what was asked before is asked again.
        rules: tell whether they could be run.
        produce: writes key and value to the topic, durably.
        gate: our client id.
        release: of Placet.
        observer: is told when answers can't be given.
    """

    def __init__(
        self,
        runtime: Runtime,
        make_reader: Callable[[], LogReader],
        partition: TopicPartition,
        position: int,
        rules: RulesInForce,
        produce: Callable[[bytes, bytes], None],
        gate: str,
        release: str,
        observer: Observer,
    ) -> None:
        self._runtime = runtime
        self._make_reader = make_reader
        self._partition, self._position = partition, position
        self._rules = rules
        self._produce = produce
        self._gate, self._release = gate, release
        self._observer = observer

    def listen(self) -> None:
        """Listen from now on."""
        self._runtime.spawn("answer what can be run", self._run)

    def _run(self) -> None:
        while not self._rules.closed:
            try:
                self._take_each()
            except LogUnreachable:
                self._runtime.sleep(_AGAIN_S)
            except PlacetError as error:  # the right to read or write is missing
                self._observer.event("can't say what can be run here", why=str(error))
                self._runtime.sleep(_AFTER_REFUSAL_S)

    def _take_each(self) -> None:
        reader = self._make_reader()
        try:
            reader.follow(self._partition, self._position)
            while not self._rules.closed:
                for record in reader.take(_TAKE_MS)[0]:
                    self._position = record.offset + 1
                    self._answer(record)
        finally:
            reader.close()

    def _answer(self, record: ConsumerRecord) -> None:
        candidate = candidate_of(record.key)
        if candidate is None:
            return
        try:
            why_not = self._rules.why_not(decode_control(record.value or b""))
        except DecodeError as error:
            why_not = _TOO_OLD.format(error=error)
        except Exception as error:  # noqa: BLE001 - code of users is imported: whatever it raises, it can't be run
            why_not = f"{type(error).__name__}: {error}"
        answer = GateAnswer(self._gate, *candidate, why_not, self._release, LADDER)
        self._produce(answer_key(answer), encode_answer(answer))
