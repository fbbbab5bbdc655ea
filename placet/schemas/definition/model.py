"""The definition model: what a user writes about one entity type, read strictly and checked.

    text ─ yaml ─► data with lines ─ pydantic ─► Definition ─ checks ─► ready to compile

Every error is a `DefinitionError` with file, line, path and fix. The grammar is in the models below, one class for each
block of the file. `from: any` means every declared status but the final ones; `absent` is never part of it: creation
is written out, `from: absent`. A final status may be left only to `absent`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from functools import cached_property
from typing import Any

from pydantic import Field as Key
from pydantic import PrivateAttr, StrictInt, StrictStr, ValidationError

from placet.schemas.definition import checks
from placet.schemas.definition.field_types import Field
from placet.schemas.definition.grammar import (
    Block,
    Duration,
    Finals,
    ProposalRule,
    Rule,
    SignalRule,
    Statuses,
    TransitionRule,
    Ways,
    is_function,
    written_ms,
)
from placet.schemas.definition.problems import Problem, explain, locate
from placet.schemas.definition.timers import TimerRule
from placet.schemas.definition.windows import WindowRule
from placet.schemas.definition.yaml import Document, read_yaml
from placet.schemas.errors import DefinitionError

__all__ = [
    "ANY",
    "Definition",
    "Field",
    "ProposalRule",
    "Rule",
    "SignalRule",
    "TimerRule",
    "TransitionRule",
    "WindowRule",
    "parse_definition",
    "problems_of",
]

ANY = "any"
"""Written in `from`: every declared status but the final ones."""

HORIZON_MS = 24 * 3_600_000
"""The horizon where a definition names none: a day."""


class Definition(Block):
    """One entity type: its statuses, fields, signals, proposals, timers, windows and invariants.

    `sources` holds the digests of the `python:` functions. Loading a definition fills it in, `document` contains it,
    and compiling compares it with the installed code.
    """

    entity: StrictStr = Key(description="the entity type, singular; its topics are `<app>.<entity>.signals` …")
    version: StrictInt = Key(
        ge=1,
        le=2**31 - 1,
        description="of this definition; the gate refuses the same version with other rules, and a lower one",
    )
    horizon_ms: Duration = Key(
        default=HORIZON_MS,
        alias="horizon",
        json_schema_extra={"default": "24h"},
        description="how long a retry is recognised; what was issued earlier is refused (`TOO_LATE`)",
    )
    statuses: Statuses = Key(description="`absent` is built in and not listed: before creation and after deletion")
    final: Finals = Key(
        default=(), description="may be left only to `absent`; staying in one, to set a field, is allowed"
    )
    fields: dict[str, Field] = Key(default_factory=dict, description="what is remembered of each entity")
    signals: dict[str, SignalRule] = Key(
        default_factory=dict,
        description="the facts; a name may not be a proposal's too, as decisions are found by name",
    )
    proposals: dict[str, ProposalRule] = Key(default_factory=dict, description="what an AI may ask for")
    timers: dict[str, TimerRule] = Key(
        default_factory=dict,
        description="what happens because time passed; a name may not be that of a signal or proposal",
    )
    windows: dict[str, WindowRule] = Key(
        default_factory=dict,
        description="how many inputs were accepted within a time; guards and limits read it as `window.<name>`",
    )
    invariants: dict[str, StrictStr] = Key(
        default_factory=dict,
        description="true of every new state, but not asked on `to: absent`; a change that breaks one is refused "
        "(`INVARIANT_VIOLATED`)",
    )
    sources: dict[str, StrictStr] = Key(
        default_factory=dict, description="digests of `python:` functions, written by Placet into what it publishes"
    )
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
            "horizon": written_ms(self.horizon_ms),
            "statuses": list(self.statuses),
            "final": list(self.final),
            "fields": {name: field.written() for name, field in self.fields.items()},
            "signals": {name: rule.written() for name, rule in self.signals.items()},
            "proposals": {name: rule.written() for name, rule in self.proposals.items()},
            # Left out where there are none: what was published before there were any keeps its digest.
            **({"timers": {name: rule.written() for name, rule in self.timers.items()}} if self.timers else {}),
            **({"windows": {name: rule.written() for name, rule in self.windows.items()}} if self.windows else {}),
            "invariants": dict(self.invariants),
            "sources": dict(self.sources),
        }

    def rules(self) -> list[tuple[str, str, SignalRule | ProposalRule]]:
        """All rules with their section ("signals" or "proposals") and name, in file order."""
        signals: list[tuple[str, str, SignalRule | ProposalRule]] = [
            ("signals", name, rule) for name, rule in self.signals.items()
        ]
        return signals + [("proposals", name, rule) for name, rule in self.proposals.items()]

    def ways(self) -> list[tuple[str, str, Ways]]:
        """Return all that has transitions, with its section and name: the rules, then the timers."""
        return [*self.rules(), *(("timers", name, rule) for name, rule in self.timers.items())]

    @cached_property
    def asks_read_at(self) -> bool:
        """Whether a proposal's age is bounded by the time at which its state was read."""
        return any(rule.max_state_age_ms is not None for rule in self.proposals.values())

    def statuses_from(self, transition: TransitionRule) -> tuple[str, ...]:
        """The statuses that a transition leaves, `any` resolved."""
        if transition.from_ != (ANY,):
            return transition.from_
        return tuple(status for status in self.statuses if status not in self.final)

    def error(self, found: Problem) -> DefinitionError:
        """A problem of this definition as an error that names file and line."""
        return locate(found, self._read_from)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Definition) and self.document == other.document

    def __hash__(self) -> int:
        return hash(self.document)


_NOT_IN_YAML = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")


def _json(form: dict[str, Any]) -> str:
    """JSON that is YAML as well: what YAML does not take as it is, or takes for a line's end, is escaped."""
    text = json.dumps(form, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return _NOT_IN_YAML.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


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


DigestOf = Callable[[str], str]


def _unknown(reference: str) -> str:
    raise DefinitionError(
        f"the source of {reference!r} is not known", fix="Read it with `placet.parse_definition` or `load_definition`."
    )


def _read(document: Document, digest_of: DigestOf) -> tuple[Definition | None, list[Problem]]:
    """The definition, or what is wrong with it."""
    try:
        written = Definition.model_validate(document.data)
    except ValidationError as error:
        return None, explain(error)
    sources, problems = _digest_functions(written, digest_of)
    definition = written.model_copy(update={"sources": {**written.sources, **sources}})
    definition._read_from = document  # noqa: SLF001  our own class, built here
    return definition, [*problems, *checks.check(definition)]


def _digest_functions(written: Definition, digest_of: DigestOf) -> tuple[dict[str, str], list[Problem]]:
    """Digests of the `python:` functions that the document does not carry yet."""
    sources: dict[str, str] = {}
    problems: list[Problem] = []
    for path, text in checks.expressions(written):
        if is_function(text) and text not in written.sources:
            try:
                sources[text] = digest_of(text)
            except DefinitionError as error:
                problems.append(Problem(path, error.message, error.fix))
    return sources, problems


def problems_of(text: str, file: str = "<text>", digest_of: DigestOf = _unknown) -> list[DefinitionError]:
    """Everything that is wrong with a definition's text, in file order; empty when it loads."""
    try:
        document = read_yaml(text, file)
    except DefinitionError as error:
        return [error]
    _, problems = _read(document, digest_of)
    return sorted((locate(found, document) for found in problems), key=lambda e: e.line)


def parse_definition(text: str, file: str = "<text>", digest_of: DigestOf = _unknown) -> Definition:
    """Read a definition from YAML or from its canonical JSON.

    Args:
        text: the whole document.
        file: its name for error messages.
        digest_of: gives the digest of the source of a `python:` function. Canonical JSON has them all in it.

    Raises:
        DefinitionError: the first error in the text, with file, line, path and fix.
    """
    document = read_yaml(text, file)
    definition, problems = _read(document, digest_of)
    if definition is None or problems:
        raise min((locate(found, document) for found in problems), key=lambda e: e.line)
    return definition
