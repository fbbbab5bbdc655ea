"""The block of a timer: when it is due, and what it does to an entity that is still there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Final

from pydantic import Field as Key
from pydantic import PlainValidator, StrictStr, WithJsonSchema, model_validator

from placet.schemas.definition.field_types import Field, problem
from placet.schemas.definition.grammar import Duration, Ways, written_ms

__all__ = ["TimerRule"]

_STATE: Final = "state."


def _state_field(written: object) -> str:
    if not isinstance(written, str) or not written.startswith(_STATE):
        raise problem(f"{written!r} is no field of the state", "Write `at: state.<timestamp field>`.")
    return written


class TimerRule(Ways):
    """What happens because time passed: armed when an entity enters one of the statuses, gone when it leaves."""

    payload: ClassVar[Mapping[str, Field]] = {}
    dedup: ClassVar[str] = "once"
    after_ms: Duration | None = Key(
        default=None, alias="after", description="so long after the entity entered the status; at least `1s`"
    )
    at: Annotated[
        StrictStr | None,
        PlainValidator(_state_field),
        WithJsonSchema({"type": "string", "pattern": "^state\\.[a-z][a-z0-9_]*$", "examples": ["state.valid_to"]}),
    ] = Key(
        default=None,
        description="or at the time in this timestamp field: it moves with the field, and null does not arm it",
    )

    @model_validator(mode="before")
    @classmethod
    def _has_one_time(cls, written: object) -> object:
        if isinstance(written, dict) and (written.get("after") is None) == (written.get("at") is None):
            raise problem("a timer has one time", "Write `after: 30s`, or `at: state.<timestamp field>`.")
        return written

    @property
    def field(self) -> str:
        """The state field that holds the time; "" where none does."""
        return (self.at or "").removeprefix(_STATE)

    def written(self) -> dict[str, Any]:
        """The canonical form, defaults filled in."""
        time = {"at": self.at} if self.after_ms is None else {"after": written_ms(self.after_ms)}
        return {**super().written(), **time}
