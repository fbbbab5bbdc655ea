"""Times as callers write them: milliseconds since the epoch, or datetimes with a time zone. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeAlias

from placet.schemas.definition.field_types import Field
from placet.schemas.errors import InvalidPayload
from placet.schemas.messages import Value

__all__ = ["Given", "duration_ms", "implausible", "payload_values", "time_ms"]

Given: TypeAlias = Value | datetime
"""What a caller may give for a field of a payload."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)
_EARLIEST_MS: Final = (datetime(2000, 1, 1, tzinfo=UTC) - _EPOCH) // _MILLISECOND
_LATEST_MS: Final = (datetime(2100, 1, 1, tzinfo=UTC) - _EPOCH) // _MILLISECOND
_WANTED: Final = "give milliseconds since the epoch, or a datetime with a time zone such as datetime.now(UTC)"


def time_ms(what: str, given: int | datetime, name: str) -> int:
    """Return when something happened, in ms since the epoch.

    A number that is no plausible number of milliseconds is refused: see `implausible`. A datetime may be any time.

    Args:
        what: the argument's name, such as `event_time`.
        given: its value.
        name: the signal's or proposal's.

    Raises:
        InvalidPayload: it is no such time.
    """
    if isinstance(given, datetime):
        return _of_moment(what, given, name)
    if type(given) is not int:
        raise InvalidPayload(f"`{what}` is of type {type(given).__name__}: {_WANTED}", name=name)
    if doubt := implausible(given):
        raise InvalidPayload(f"`{what}` is {given}: {doubt} give a datetime with a time zone.", name=name)
    return given


def implausible(given: int) -> str:
    """Return why a number is hardly a time in milliseconds, for the caller to add what to give; "" if it may be.

    Seconds, taken for milliseconds, are a day of 1970, and the fact older than all others; micro- and nanoseconds are
    a year in which nobody reads it.
    """
    if given < _EARLIEST_MS:
        return "in milliseconds that is before the year 2000. Is it in seconds? For a time before 2000"
    if given >= _LATEST_MS:
        return "in milliseconds that is after the year 2099. Is it in micro- or nanoseconds? For a time after 2099"
    return ""


def duration_ms(what: str, given: timedelta, name: str) -> int:
    """Return a duration in ms.

    Raises:
        InvalidPayload: it is no timedelta.
    """
    if not isinstance(given, timedelta):
        raise InvalidPayload(f"`{what}` is of type {type(given).__name__}: give a datetime.timedelta", name=name)
    return given // _MILLISECOND


def payload_values(given: Mapping[str, Given] | None, fields: Mapping[str, Field], name: str) -> dict[str, Value]:
    """Return a payload with datetimes as milliseconds, where its fields are times; the codec checks the rest.

    Raises:
        InvalidPayload: a datetime has no time zone.
    """
    return {key: _value(key, value, fields.get(key), name) for key, value in (given or {}).items()}


def _value(key: str, given: Any, field: Field | None, name: str) -> Any:
    if field is None:
        return given
    if isinstance(given, datetime):
        return _of_moment(key, given, name) if field.type == "timestamp" else given
    if isinstance(given, list) and field.items == "timestamp":
        return [_of_moment(key, item, name) if isinstance(item, datetime) else item for item in given]
    if isinstance(given, dict) and field.values == "timestamp":
        return {k: _of_moment(key, item, name) if isinstance(item, datetime) else item for k, item in given.items()}
    return given


def _of_moment(what: str, moment: datetime, name: str) -> int:
    if moment.tzinfo is None:
        raise InvalidPayload(f"`{what}` is a datetime without a time zone: {_WANTED}", name=name)
    return (moment - _EPOCH) // _MILLISECOND
