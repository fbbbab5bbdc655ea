"""The definition model: what a user writes about one entity type, read strictly and checked.

    text ─ strict_yaml ─► data with lines ─ pydantic ─► Definition ─ definition_checks ─► ready to compile

Every error is a `DefinitionError` with file, line, path and fix. The grammar is in the models below, one class for each
block of the file. `from: any` means every declared status but the final ones; `absent` is never part of it: creation
is written out, `from: absent`. A final status may be left only to `absent`.
"""

from __future__ import annotations

import hashlib
import json
import re
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import (
    BaseModel,
    ConfigDict,
    PlainValidator,
    PrivateAttr,
    StrictInt,
    StrictStr,
    ValidationError,
    WithJsonSchema,
    model_validator,
)
from pydantic import Field as Key

from placet.schemas import definition_checks, definition_errors
from placet.schemas.definition_errors import Problem
from placet.schemas.errors import DefinitionError
from placet.schemas.field_types import Field, problem
from placet.schemas.functions import function_digest, is_function
from placet.schemas.messages import Priority
from placet.schemas.strict_yaml import Document, read_yaml

__all__ = [
    "ANY",
    "Definition",
    "Field",
    "ProposalRule",
    "Rule",
    "SignalRule",
    "TransitionRule",
    "load_definition",
    "parse_definition",
    "problems_of",
]

ANY = "any"
"""Written in `from`: every declared status but the final ones."""

Literals: TypeAlias = str | int | float | bool | None
"""What a right-hand side of `set` may be: a string is an expression, the rest are literals."""

_UNITS_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_DURATION = re.compile(r"([1-9][0-9]{0,11})(ms|s|m|h|d)")


def _duration_ms(written: object) -> int:
    match = _DURATION.fullmatch(written) if isinstance(written, str) else None
    if match is None:
        raise problem(f"{written!r} is no duration", "Write a whole number and a unit: 500ms, 60s, 5m, 24h, 7d.")
    return int(match[1]) * _UNITS_MS[match[2]]


def _written_ms(duration_ms: int) -> str:
    unit = next(name for name in reversed(_UNITS_MS) if duration_ms % _UNITS_MS[name] == 0)
    return f"{duration_ms // _UNITS_MS[unit]}{unit}"


def _names(written: object, *, what: str) -> tuple[str, ...]:
    given = [written] if isinstance(written, str) else written
    if not isinstance(given, list) or not given or not all(isinstance(name, str) for name in given):
        raise problem(f"{written!r} is no list of {what}", f"Write a list of {what}, such as `[a, b]`.")
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
From: TypeAlias = Annotated[
    tuple[str, ...],
    PlainValidator(lambda written: _names(written, what="statuses")),
    WithJsonSchema({"anyOf": [{"type": "string"}, _LIST], "description": "a status, a list, or any"}),
]
Copied: TypeAlias = Annotated[
    tuple[str, ...],
    PlainValidator(lambda written: _names(written, what="fields")),
    WithJsonSchema({"anyOf": [{"type": "string"}, _LIST], "description": "payload.x -> x"}),
]
Assigned: TypeAlias = Annotated[
    dict[str, Literals],
    PlainValidator(_literals),
    WithJsonSchema(
        {
            "type": "object",
            "additionalProperties": {"type": ["string", "number", "boolean", "null"]},
            "description": "number, boolean, null: literal; string: expression over the OLD state",
        }
    ),
]


class _Block(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TransitionRule(_Block):
    """One way to go: from where, where to, under which condition, with which assignments.

    `to` is None for "stay". All right-hand sides of `set` see the old state.
    """

    from_: From = Key(alias="from")
    to: StrictStr | None = None
    guard: StrictStr | None = None
    copied: Copied = Key(default=(), alias="copy")
    assigned: Assigned = Key(default_factory=dict, alias="set")

    def written(self) -> dict[str, Any]:
        """The canonical form, defaults filled in."""
        return {
            "from": list(self.from_),
            **({} if self.to is None else {"to": self.to}),
            **({} if self.guard is None else {"guard": self.guard}),
            **({"copy": list(self.copied)} if self.copied else {}),
            **({"set": dict(self.assigned)} if self.assigned else {}),
        }


_INLINE = ("from", "to", "guard", "copy", "set")


class Rule(_Block):
    """What signals and proposals have in common: a payload and at least one transition.

    A single transition's keys stand inline; several stand under `transitions`, and the first whose guard holds wins.
    """

    payload: dict[str, Field] = Key(default_factory=dict)
    transitions: tuple[TransitionRule, ...]

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
        return {
            "payload": {name: field.written() for name, field in self.payload.items()},
            "transitions": [transition.written() for transition in self.transitions],
        }


class SignalRule(Rule):
    """A fact from outside: no fence, no expiry."""

    dedup: Annotated[
        str | tuple[str, ...],
        PlainValidator(_signal_dedup),
        WithJsonSchema({"anyOf": [{"enum": ["key", "once", "newest"]}, _LIST]}),
    ] = "key"
    late: Literal["apply", "refuse"] = "apply"

    def written(self) -> dict[str, Any]:
        """The canonical form, defaults filled in."""
        return {**super().written(), "dedup": _listed(self.dedup), "late": self.late}


class ProposalRule(Rule):
    """A change that an AI would like: fenced, may expire, never applied twice."""

    dedup: Annotated[
        str | tuple[str, ...],
        PlainValidator(_proposal_dedup),
        WithJsonSchema({"anyOf": [{"enum": ["key", "once"]}, _LIST]}),
    ] = "key"
    fence: Annotated[
        str | tuple[str, ...],
        PlainValidator(_fence),
        WithJsonSchema({"anyOf": [{"enum": ["exact", "none"]}, _LIST]}),
    ] = "exact"
    valid_for_ms: Duration | None = Key(default=None, alias="valid_for")
    priority: Annotated[
        Priority, PlainValidator(_priority), WithJsonSchema({"enum": ["critical", "normal", "low"]})
    ] = Priority.NORMAL

    def written(self) -> dict[str, Any]:
        """The canonical form, defaults filled in."""
        expiry = {} if self.valid_for_ms is None else {"valid_for": _written_ms(self.valid_for_ms)}
        return {
            **super().written(),
            "dedup": _listed(self.dedup),
            "fence": _listed(self.fence),
            "priority": self.priority.name.lower(),
            **expiry,
        }


def _listed(words: str | tuple[str, ...]) -> str | list[str]:
    return words if isinstance(words, str) else list(words)


class Definition(_Block):
    """One entity type: its statuses, fields, signals, proposals and invariants.

    `sources` holds the digests of the `python:` functions; it is filled in when a definition is loaded, travels in
    `document`, and is compared with the code at hand when the definition is compiled.
    """

    entity: StrictStr
    version: StrictInt = Key(ge=1, le=2**31 - 1)
    horizon_ms: Duration = Key(default=_UNITS_MS["h"] * 24, alias="horizon")
    statuses: Statuses
    final: Annotated[tuple[str, ...], PlainValidator(lambda w: () if w == [] else _names(w, what="statuses"))] = ()
    fields: dict[str, Field] = Key(default_factory=dict)
    signals: dict[str, SignalRule] = Key(default_factory=dict)
    proposals: dict[str, ProposalRule] = Key(default_factory=dict)
    invariants: dict[str, StrictStr] = Key(default_factory=dict)
    sources: dict[str, StrictStr] = Key(default_factory=dict)
    _read_from: Document | None = PrivateAttr(default=None)

    @cached_property
    def document(self) -> str:
        """Canonical JSON, defaults filled in; `parse_definition(document)` gives an equal definition."""
        return _json(self.written())

    @cached_property
    def digest(self) -> bytes:
        """16 bytes of blake2b over the canonical JSON without `doc` texts: docs are no rules."""
        return hashlib.blake2b(_json(_without_docs(self.written())).encode(), digest_size=16).digest()

    def written(self) -> dict[str, Any]:
        """The canonical form, defaults filled in."""
        return {
            "entity": self.entity,
            "version": self.version,
            "horizon": _written_ms(self.horizon_ms),
            "statuses": list(self.statuses),
            "final": list(self.final),
            "fields": {name: field.written() for name, field in self.fields.items()},
            "signals": {name: rule.written() for name, rule in self.signals.items()},
            "proposals": {name: rule.written() for name, rule in self.proposals.items()},
            "invariants": dict(self.invariants),
            "sources": dict(self.sources),
        }

    def rules(self) -> list[tuple[str, str, SignalRule | ProposalRule]]:
        """All rules with their section ("signals" or "proposals") and name, in file order."""
        signals: list[tuple[str, str, SignalRule | ProposalRule]] = [
            ("signals", name, rule) for name, rule in self.signals.items()
        ]
        return signals + [("proposals", name, rule) for name, rule in self.proposals.items()]

    def statuses_from(self, transition: TransitionRule) -> tuple[str, ...]:
        """The statuses that a transition leaves, `any` resolved."""
        if transition.from_ != (ANY,):
            return transition.from_
        return tuple(status for status in self.statuses if status not in self.final)

    def error(self, found: Problem) -> DefinitionError:
        """A problem of this definition as an error that names file and line."""
        return definition_errors.locate(found, self._read_from)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Definition) and self.document == other.document

    def __hash__(self) -> int:
        return hash(self.document)


def _json(form: dict[str, Any]) -> str:
    return json.dumps(form, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def _without_docs(form: dict[str, Any]) -> dict[str, Any]:
    def strip(fields: dict[str, dict[str, Any]]) -> dict[str, Any]:
        return {name: {key: v for key, v in field.items() if key != "doc"} for name, field in fields.items()}

    def strip_rules(rules: dict[str, dict[str, Any]]) -> dict[str, Any]:
        return {name: {**rule, "payload": strip(rule["payload"])} for name, rule in rules.items()}

    return {
        **form,
        "fields": strip(form["fields"]),
        "signals": strip_rules(form["signals"]),
        "proposals": strip_rules(form["proposals"]),
    }


def _read(document: Document) -> tuple[Definition | None, list[Problem]]:
    """The definition, or what is wrong with it."""
    try:
        definition = Definition.model_validate(document.data)
    except ValidationError as error:
        return None, definition_errors.explain(error)
    problems = list(definition_checks.check(definition))
    sources: dict[str, str] = {}
    for path, reference in definition_checks.expressions(definition):
        if is_function(reference) and reference not in definition.sources:
            try:
                sources[str(reference)] = function_digest(str(reference))
            except DefinitionError as failure:
                problems.append(Problem(path, failure.message, failure.fix))
    complete = definition.model_copy(update={"sources": {**definition.sources, **sources}})
    complete._read_from = document  # noqa: SLF001  our own class, built here
    return complete, problems


def problems_of(text: str, file: str = "<text>") -> list[DefinitionError]:
    """Everything that is wrong with a definition's text, in file order; empty when it loads."""
    try:
        document = read_yaml(text, file)
    except DefinitionError as error:
        return [error]
    _, problems = _read(document)
    return sorted((definition_errors.locate(found, document) for found in problems), key=lambda e: e.line)


def parse_definition(text: str, file: str = "<text>") -> Definition:
    """Read a definition from YAML or from its canonical JSON.

    Args:
        text: the whole document.
        file: its name for error messages.

    Raises:
        DefinitionError: the first thing that is wrong, with file, line, path and fix.
    """
    document = read_yaml(text, file)
    definition, problems = _read(document)
    if definition is None or problems:
        raise min((definition_errors.locate(found, document) for found in problems), key=lambda e: e.line)
    return definition


def load_definition(path: Path) -> Definition:
    """Read a definition from a UTF-8 file.

    Raises:
        DefinitionError: the file cannot be read, or its text is no definition.
    """
    return parse_definition(read_text(path), str(path))


def read_text(path: Path) -> str:
    """A definition file's text.

    Raises:
        DefinitionError: the file cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DefinitionError(
            f"cannot be read: {error}", file=str(path), fix="Give the path of a UTF-8 YAML file."
        ) from error
