"""Makes triggers of records; leaves out records without a function here, and those that can't be read."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Final

from placet.advisor.advice import Signal, Think
from placet.client.tracing import trace_headers
from placet.schemas.codec.codec import Codec
from placet.schemas.errors import DecodeError, UnknownSchema
from placet.schemas.messages import Kind
from placet.streams.records import ConsumerRecord
from placet.streams.telemetry.log import get_logger

__all__ = ["Reader", "Trigger"]

_UNKNOWN_MAX: Final = 1_000


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
        codec: gives the codec of the entity type, by the rules in force.
        thinkers: the functions by the names of the signals that trigger them.
        count: is told `undecodable`.
    """

    def __init__(self, codec: Callable[[], Codec], thinkers: Mapping[str, Think], count: Callable[[str], None]) -> None:
        self._codec = codec
        self._thinkers = thinkers
        self._count = count
        self._log = get_logger("advisor")
        self._kinds: set[str] = set()
        self._unknown: set[str] = set()

    def trigger(self, record: ConsumerRecord, *, read: bool = False) -> Trigger | None:
        """Return the trigger; None if no function here is for this signal, or if it can't be read.

        Args:
            record: of the signals.
            read: the published rules were read to their end since this record came.

        Raises:
            UnknownSchema: its schema is not known, for the first time: its rules may have been published meanwhile.
        """
        try:
            message = self._codec().decode(Kind.SIGNAL, record.value or b"")
        except UnknownSchema as error:
            if not read and str(error) not in self._unknown:
                raise
            self._remember(str(error))
            self._note(record, error)
            return None
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

    def _remember(self, unknown: str) -> None:
        """Ask once for each: senders may make them up."""
        if len(self._unknown) >= _UNKNOWN_MAX:
            self._unknown.clear()
        self._unknown.add(unknown)

    def _note(self, record: ConsumerRecord, error: DecodeError) -> None:
        """Count it, and log the first one of its kind: there may be thousands."""
        self._count("undecodable")
        kind = type(error).__name__
        if kind not in self._kinds:
            self._kinds.add(kind)
            later = ": nobody has published its version yet; sent again later it may be read"
            what = f"{error}{later}" if isinstance(error, UnknownSchema) else str(error)
            self._log.warning(
                "undecodable signal", kind=kind, error=what, partition=record.partition, offset=record.offset
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
