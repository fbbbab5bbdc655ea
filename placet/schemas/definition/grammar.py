"""The blocks of a definition file below its top level: how durations, lists, rules and transitions are written.

One class for each block. A before-validator turns what people write (a single transition inline, `copy: field`) into
the one form that the model holds; `written()` gives the canonical form back.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, PlainValidator, StrictBool, StrictStr, WithJsonSchema, model_validator
from pydantic import Field as Key

from placet.schemas.definition.field_types import Field, problem
from placet.schemas.messages import Priority

__all__ = [
    "FUNCTION",
    "Block",
    "Duration",
    "Finals",
    "ProposalRule",
    "Rule",
    "SignalRule",
    "Statuses",
    "TransitionRule",
    "Ways",
    "is_function",
    "written_ms",
]

FUNCTION: Final = "python:"
"""What an expression begins with that is a Python function: `python:package.module:function`."""

Literals: TypeAlias = str | int | float | bool | None
"""What a right-hand side of `set` may be: a string is an expression, the rest are literals."""

_UNITS_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_DURATION = re.compile(r"([1-9][0-9]{0,11})(ms|s|m|h|d)")


def _duration_ms(written: object) -> int:
    match = _DURATION.fullmatch(written) if isinstance(written, str) else None
    if match is None:
        raise problem(f"{written!r} is no duration", "Write a whole number and a unit: 500ms, 60s, 5m, 24h, 7d.")
    return int(match[1]) * _UNITS_MS[match[2]]


def written_ms(duration_ms: int) -> str:
    """A duration as an author writes it, in the largest unit that fits."""
    unit = next(name for name in reversed(_UNITS_MS) if duration_ms % _UNITS_MS[name] == 0)
    return f"{duration_ms // _UNITS_MS[unit]}{unit}"


def _name_or_names(written: object, *, what: str) -> tuple[str, ...]:
    return _names([written] if isinstance(written, str) else written, what=what)


def _names(given: object, *, what: str) -> tuple[str, ...]:
    if not isinstance(given, list) or not given or not all(isinstance(name, str) for name in given):
        raise problem(f"{given!r} is no list of {what}", f"Write a list of {what}, such as `[a, b]`.")
    if len(set(given)) != len(given):
        raise problem(f"a name stands twice in this list of {what}", "Keep one of them.")
    return tuple(given)


def _word_or_names(written: object, words: tuple[str, ...], what: str) -> str | tuple[str, ...]:
    if isinstance(written, str):
        if written not in words:
            raise problem(f"{written!r} is not known here", f"Use {', '.join(words)}, or a list of {what}.")
        return written
    return _names(written, what=what)


def _signal_dedup(written: object) -> str | tuple[str, ...]:
    return _word_or_names(written, ("key", "once", "newest"), "payload fields")


def _proposal_dedup(written: object) -> str | tuple[str, ...]:
    if written == "newest":
        raise problem("newest is for signals only", "Use `once`, a list of payload fields, or leave it out.")
    return _word_or_names(written, ("key", "once"), "payload fields")


def _fence(written: object) -> str | tuple[str, ...]:
    return _word_or_names(written, ("exact", "none"), "state fields")


def _priority(written: object) -> Priority:
    if not isinstance(written, str) or written.upper() not in Priority.__members__ or not written.islower():
        raise problem(f"{written!r} is no priority", "Use critical, normal or low.")
    return Priority[written.upper()]


def _literals(written: object) -> dict[str, Literals]:
    if not isinstance(written, dict):
        raise problem("set is a mapping", "Write `set: {field: value}`.")
    for name, value in written.items():
        if isinstance(value, list | dict):
            raise problem(
                f"the value of {name} is neither a literal nor an expression",
                "Write lists and maps as an expression in quotes, such as \"['a']\" or '{}'.",
            )
    return dict(written)


_LIST = {"type": "array", "items": {"type": "string"}, "minItems": 1, "uniqueItems": True}
_DURATION_SCHEMA = {"type": "string", "pattern": f"^{_DURATION.pattern}$", "examples": ["60s", "24h"]}

Duration: TypeAlias = Annotated[int, PlainValidator(_duration_ms), WithJsonSchema(_DURATION_SCHEMA)]
Statuses: TypeAlias = Annotated[
    tuple[str, ...],
    PlainValidator(lambda written: _names(written, what="statuses")),
    WithJsonSchema(_LIST),
]
Finals: TypeAlias = Annotated[
    tuple[str, ...],
    PlainValidator(lambda written: () if written == [] else _names(written, what="statuses")),
    WithJsonSchema({**_LIST, "minItems": 0}),
]
From: TypeAlias = Annotated[
    tuple[str, ...],
    PlainValidator(lambda written: _name_or_names(written, what="statuses")),
    WithJsonSchema({"anyOf": [{"type": "string"}, _LIST], "description": "a status, a list, or any"}),
]
Copied: TypeAlias = Annotated[
    tuple[str, ...],
    PlainValidator(lambda written: _name_or_names(written, what="fields")),
    WithJsonSchema({"anyOf": [{"type": "string"}, _LIST], "description": "payload.x -> x"}),
]
Assigned: TypeAlias = Annotated[
    dict[str, Literals],
    PlainValidator(_literals),
    WithJsonSchema(
        {
            "type": "object",
            "additionalProperties": {"type": ["string", "number", "boolean", "null"]},
            "description": "number, boolean, null: literal; string: expression over the OLD state, or a function, "
            "`python:package.module:function`",
        }
    ),
]


class Block(BaseModel):
    """What all blocks have in common: unknown keys are errors, nothing changes after loading."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class TransitionRule(Block):
    """One way to go: from where, where to, under which condition, with which assignments.

    `to` is None for "stay". All right-hand sides of `set` see the old state.
    """

    from_: From = Key(
        alias="from",
        description="where it starts: a status, a list, or `any` (each but the final ones; never `absent`: creation is "
        "written out)",
    )
    to: StrictStr | None = Key(
        default=None,
        description="the status afterwards, or as before; `absent` deletes the entity, but not its version counter",
    )
    guard: StrictStr | None = Key(
        default=None,
        description="boolean expression, or `python:package.module:function` (`…@2`: version 2); left out: it holds",
    )
    copied: Copied = Key(
        default=(),
        alias="copy",
        description="payload fields that go into state fields of the same name and type",
    )
    assigned: Assigned = Key(
        default_factory=dict,
        alias="set",
        description="number, boolean, null: a literal; a string: an expression over the OLD state, so a text stands in "
        "quotes inside, `\"'high'\"`",
    )
    late: StrictBool = Key(
        default=False,
        description="only late facts take it, no others do: of a signal with `late: compensate`, below `transitions`",
    )

    def written(self) -> dict[str, Any]:
        """The canonical form, defaults filled in."""
        return {
            "from": list(self.from_),
            **({} if self.to is None else {"to": self.to}),
            **({} if self.guard is None else {"guard": self.guard}),
            **({"copy": list(self.copied)} if self.copied else {}),
            **({"set": dict(self.assigned)} if self.assigned else {}),
            **({"late": True} if self.late else {}),
        }


_INLINE = ("from", "to", "guard", "copy", "set")


class Ways(Block):
    """What all rules have in common: at least one transition.

    A single transition's keys stand inline; several stand under `transitions`, and the first whose guard holds wins.
    """

    transitions: tuple[TransitionRule, ...] = Key(
        description="tried in order, the first whose guard holds wins; a single one's keys stand in the rule itself"
    )

    @model_validator(mode="before")
    @classmethod
    def _gather_inline(cls, written: object) -> object:
        if not isinstance(written, dict):
            raise problem("a rule is a mapping", "Write `from:`, `to:`, … below the name.")
        inline = {key: written[key] for key in _INLINE if key in written}
        if not inline and not written.get("transitions"):
            raise problem("no transition is given", "Add `from: <status>`, or a list under `transitions:`.")
        if not inline:
            return written
        if "transitions" in written:
            raise problem(f"{next(iter(inline))} stands beside transitions", "Move it into an item of `transitions:`.")
        rest = {key: value for key, value in written.items() if key not in inline}
        return {**rest, "transitions": [inline]}

    def written(self) -> dict[str, Any]:
        """The canonical form, defaults filled in."""
        return {"transitions": [transition.written() for transition in self.transitions]}


class Rule(Ways):
    """What signals and proposals have in common: a payload, and transitions."""

    payload: dict[str, Field] = Key(default_factory=dict, description="what the input carries")

    def written(self) -> dict[str, Any]:
        """The canonical form, defaults filled in."""
        return {"payload": {name: field.written() for name, field in self.payload.items()}, **super().written()}


class SignalRule(Rule):
    """A fact from outside: no fence, no expiry."""

    dedup: Annotated[
        str | tuple[str, ...],
        PlainValidator(_signal_dedup),
        WithJsonSchema({"anyOf": [{"enum": ["key", "once", "newest"]}, _LIST]}),
    ] = Key(
        default="key",
        description="what names the occasion: the record's own key (`dedup_key`, else `signal_id`); `once` for each "
        "entity; only the `newest` event_time counts; or these payload fields",
    )
    late: Literal["apply", "refuse", "compensate"] = Key(
        default="apply",
        description="what becomes of an older fact after a newer one of the same name: applied as any other, "
        "`SUPERSEDED`, or it takes a transition of its own (`late: true`)",
    )
    elsewhere: Literal["refuse", "ignore"] = Key(
        default="refuse",
        description="what becomes of a fact in a status that no transition leaves: an alarm (`ILLEGAL_TRANSITION`), or "
        "nothing (`IGNORED`)",
    )

    def written(self) -> dict[str, Any]:
        """The canonical form, defaults filled in, but for keys that came later: what is published keeps its digest."""
        elsewhere = {} if self.elsewhere == "refuse" else {"elsewhere": self.elsewhere}
        return {**super().written(), "dedup": _listed(self.dedup), "late": self.late, **elsewhere}


class ProposalRule(Rule):
    """A change that an AI would like: fenced, may expire, never applied twice."""

    dedup: Annotated[
        str | tuple[str, ...],
        PlainValidator(_proposal_dedup),
        WithJsonSchema({"anyOf": [{"enum": ["key", "once"]}, _LIST]}),
    ] = Key(
        default="key",
        description="what names the occasion: the record's own key (`dedup_key`, else `caused_by` with the name); "
        "`once` for each entity; or these payload fields",
    )
    fence: Annotated[
        str | tuple[str, ...],
        PlainValidator(_fence),
        WithJsonSchema({"anyOf": [{"enum": ["exact", "none"]}, _LIST]}),
    ] = Key(
        default="exact",
        description="stale (`STALE`) when anything changed since it was based (`exact`), when one of these fields did, "
        "or `status` where it is named, or the entity was deleted and created again (a list), or never (`none`, for "
        "what commutes)",
    )
    valid_for_ms: Duration | None = Key(
        default=None,
        alias="valid_for",
        description="it expires so long after `issued_at` (`EXPIRED`), whatever the proposer says; at most the horizon",
    )
    max_state_age_ms: Duration | None = Key(
        default=None,
        alias="max_state_age",
        description="it is refused (`STATE_TOO_OLD`) so long after the state that it is based on was read (`read_at`), "
        "and if it does not say when; at most the horizon",
    )
    limits: Annotated[
        tuple[str, ...],
        PlainValidator(lambda written: _name_or_names(written, what="expressions")),
        WithJsonSchema({"anyOf": [{"type": "string"}, _LIST]}),
    ] = Key(
        default=(),
        description="boolean expressions over `window.<name>`, as it is before this proposal; one that is false "
        "refuses it (`RATE_LIMITED`), and says until when",
    )
    priority: Annotated[
        Priority, PlainValidator(_priority), WithJsonSchema({"enum": ["critical", "normal", "low"]})
    ] = Key(
        default=Priority.NORMAL,
        json_schema_extra={"default": "normal"},
        description="for a later version, which lets go of low ones first under load; today it changes no decision",
    )

    def written(self) -> dict[str, Any]:
        """The canonical form, defaults filled in."""
        bounds = {"valid_for": self.valid_for_ms, "max_state_age": self.max_state_age_ms}
        return {
            **super().written(),
            "dedup": _listed(self.dedup),
            "fence": _listed(self.fence),
            "priority": self.priority.name.lower(),
            **{key: written_ms(bound_ms) for key, bound_ms in bounds.items() if bound_ms is not None},
            **({"limits": list(self.limits)} if self.limits else {}),
        }


def _listed(words: str | tuple[str, ...]) -> str | list[str]:
    return words if isinstance(words, str) else list(words)


def is_function(expression: object) -> bool:
    """Tell whether an expression of a definition names a Python function."""
    return isinstance(expression, str) and expression.startswith(FUNCTION)
