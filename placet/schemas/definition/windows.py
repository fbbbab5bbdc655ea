"""The block of a window: which accepted inputs of an entity it counts, and for how long each of them counts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import Field as Key
from pydantic import PlainValidator, StrictStr, WithJsonSchema, model_validator

from placet.schemas.definition.field_types import expected, problem
from placet.schemas.definition.grammar import Block, Duration, written_ms
from placet.schemas.definition.problems import Problem, suggest
from placet.schemas.definition.yaml import Path

if TYPE_CHECKING:
    from placet.schemas.definition.model import Definition

__all__ = ["WINDOWS_MAX", "WindowRule", "check_windows"]

WINDOWS_MAX: Final = 16
"""Of one entity type: what they count of an entity lies in its state, which has a limit."""


def _input_field(written: object) -> str:
    if not isinstance(written, str) or len(written.split(".")) != 2:
        raise problem(f"{written!r} is no field of an input", "Write `input.field`, such as `refund.amount_minor`.")
    return written


class WindowRule(Block):
    """How many inputs of one name an entity accepted within a time, or what a field of them adds up to."""

    counted: StrictStr | None = Key(
        default=None, alias="count", description="the accepted inputs of this name: of a signal, a proposal or a timer"
    )
    summed: Annotated[
        StrictStr | None,
        PlainValidator(_input_field),
        WithJsonSchema({"type": "string", "pattern": "^[a-z][a-z0-9_]*\\.[a-z][a-z0-9_]*$"}),
    ] = Key(
        default=None,
        alias="sum",
        description="or what a field of their payload adds up to: a whole number (`int`, `long`) that is never null",
    )
    within_ms: Duration = Key(
        alias="within", description="one counts while its log time lies less than this ago; at most the horizon"
    )
    by: Annotated[Literal["proposer"] | None, WithJsonSchema({"enum": ["proposer"]})] = Key(
        default=None, description="each proposer has a window of his own (of a signal: its source)"
    )
    start: Annotated[Literal["empty"] | None, WithJsonSchema({"enum": ["empty"]})] = Key(
        default=None,
        description="limits do not refuse until the window was kept for as long as it reaches back: what it has not "
        "counted, as it was accepted before there was the window, is taken for nothing",
    )

    @model_validator(mode="before")
    @classmethod
    def _counts_one_thing(cls, written: object) -> object:
        if not isinstance(written, dict) or ("count" in written) == ("sum" in written):
            raise problem("a window counts one thing", "Write `{count: input, within: 1h}`, or `sum: input.field`.")
        return written

    @property
    def input_name(self) -> str:
        """The input that it counts."""
        return self.counted or (self.summed or "").partition(".")[0]

    @property
    def field(self) -> str:
        """The field that it sums; "" where it counts inputs."""
        return (self.summed or "").partition(".")[2]

    @property
    def what(self) -> str:
        """What it counts, in one line: a window that counts something else begins anew."""
        counted = f"sum {self.summed}" if self.summed else f"count {self.counted}"
        return f"{counted} by {self.by}" if self.by else counted

    def written(self) -> dict[str, Any]:
        """The canonical form, defaults left out."""
        return {
            **({"sum": self.summed} if self.summed else {"count": self.counted}),
            "within": written_ms(self.within_ms),
            **({"by": self.by} if self.by else {}),
            **({"start": self.start} if self.start else {}),
        }


def check_windows(definition: Definition) -> Iterator[Problem]:
    """Everything that is wrong with the windows of a definition, their names apart."""
    if len(definition.windows) > WINDOWS_MAX:
        message = f"there are {len(definition.windows)} windows; at most {WINDOWS_MAX}"
        yield Problem(("windows",), message, "Remove some: what they count lies in the state of each entity.")
    for name, window in definition.windows.items():
        yield from _check_counted(definition, ("windows", name), window)
        if window.within_ms > definition.horizon_ms:
            yield Problem(
                ("windows", name, "within"),
                "longer than the horizon: what was applied earlier is forgotten",
                "Shorten it, or lengthen `horizon`.",
            )


def _check_counted(definition: Definition, at: Path, window: WindowRule) -> Iterator[Problem]:
    name, key = window.input_name, "sum" if window.field else "count"
    known = (*definition.signals, *definition.proposals, *definition.timers)
    if name not in known:
        yield Problem((*at, key), f"there is no signal, proposal or timer {name!r}", suggest(name, known))
    elif name in definition.timers:
        if window.field:
            yield Problem((*at, key), "a timer carries no payload", f"Write `count: {name}`.")
        if window.by:
            yield Problem((*at, "by"), "a timer has no proposer", "Remove it.")
    elif window.field:
        yield from _check_summed(definition, (*at, key), window)


def _check_summed(definition: Definition, at: Path, window: WindowRule) -> Iterator[Problem]:
    rule = definition.signals.get(window.input_name) or definition.proposals[window.input_name]
    field = rule.payload.get(window.field)
    if field is None:
        whole = tuple(name for name, one in rule.payload.items() if one.type in ("int", "long"))
        message = f"the payload of {window.input_name} has no field {window.field!r}"
        yield Problem(at, message, suggest(window.field, whole) if whole else f"Write `count: {window.input_name}`.")
    elif field.optional or field.type not in ("int", "long"):
        yield Problem(
            at,
            f"{window.field} is {expected(field)}: it cannot be summed",
            "Use a required field of type int or long; money in minor units.",
        )
