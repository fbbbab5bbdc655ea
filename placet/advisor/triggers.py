"""Makes triggers of records; leaves out records without a function here, and those that can't be read."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass

from placet.advisor.advice import Signal, Think
from placet.client.tracing import trace_headers
from placet.schemas.codec.codec import Codec
from placet.schemas.errors import DecodeError
from placet.schemas.messages import Kind
from placet.streams.records import ConsumerRecord
from placet.streams.telemetry.log import get_logger

__all__ = ["Reader", "Trigger"]


@dataclass(frozen=True, eq=False)
class Trigger:
    """A signal, the function to call for it, and its place on the log."""

    signal: Signal
    think: Think
    partition: int
    offset: int
    traceparent: str | None = None

    @property
    def topic(self) -> Hashable:
        """Entity and function: a newer trigger with the same topic may supersede this one."""
        return self.signal.entity_id, self.think


class Reader:
    """Makes triggers of records.

    Args:
        codec: of the entity type.
        thinkers: the functions by the names of the signals that trigger them.
        count: is told `undecodable`.
    """

    def __init__(self, codec: Codec, thinkers: Mapping[str, Think], count: Callable[[str], None]) -> None:
        self._codec = codec
        self._thinkers = thinkers
        self._count = count
        self._log = get_logger("advisor")
        self._kinds: set[str] = set()

    def trigger(self, record: ConsumerRecord) -> Trigger | None:
        """Return the trigger; None if no function here is for this signal, or if it can't be read."""
        try:
            message = self._codec.decode(Kind.SIGNAL, record.value or b"")
        except DecodeError as error:
            self._note(record, error)
            return None
        think = self._thinkers.get(message.name)
        if think is None:
            return None
        signal = Signal(
            message.entity_id, message.name, message.payload, message.input_id, message.event_time, message.issued_at,
            record.timestamp, message.proposer,
        )  # fmt: skip
        return Trigger(signal, think, record.partition, record.offset, _traceparent(record))

    def _note(self, record: ConsumerRecord, error: DecodeError) -> None:
        """Count it, and log the first one of its kind: there may be thousands."""
        self._count("undecodable")
        kind = type(error).__name__
        if kind not in self._kinds:
            self._kinds.add(kind)
            self._log.warning(
                "undecodable signal", kind=kind, error=str(error), partition=record.partition, offset=record.offset
            )


def _traceparent(record: ConsumerRecord) -> str | None:
    """Return the signal's trace context for the proposal; None if it has none, or an invalid one."""
    found = next((content for name, content in record.headers or () if name == "traceparent"), b"").decode(
        "ascii", "replace"
    )
    try:
        trace_headers(found)
    except ValueError:
        return None
    return found
