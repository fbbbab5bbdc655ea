"""From what pydantic or a check found to what an author reads: file, line, path, message, fix."""

from __future__ import annotations

import difflib
from typing import NamedTuple

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from placet.schemas.definition.yaml import Document, Path
from placet.schemas.errors import DefinitionError

__all__ = ["LATER_KEYS", "Problem", "explain", "locate", "suggest"]


class Problem(NamedTuple):
    """One thing that is wrong: where in the document, what, and what to write instead."""

    path: Path
    message: str
    fix: str


_OF_INPUTS = ("approval", "approvals", "effect", "effects", "escalate", "recompute", "shadow")
_OF_ENTITIES = ("admission", "authority", "migrate", "migrations", "rate", "redact", "retention")
LATER_KEYS = frozenset((*_OF_INPUTS, *_OF_ENTITIES))
"""Keys of later versions: refused by name, never ignored."""

_INLINE = ("from", "to", "guard", "copy", "set")
_RULE = ("payload", "dedup", "transitions", *_INLINE)
_FIELD = ("type", "default", "doc", "symbols", "items", "values", "precision", "scale")
_PROPOSALS_ONLY = ("fence", "valid_for", "max_state_age", "limits", "priority")
_TIMERS_ONLY = ("after", "at")
_TOP = ("entity", "version", "horizon", "statuses", "final", "fields", "signals", "proposals")
_KNOWN: dict[str, tuple[str, ...]] = {
    "top": (*_TOP, "timers", "windows", "invariants"),
    "signals": (*_RULE, "late", "elsewhere"),
    "proposals": (*_RULE, *_PROPOSALS_ONLY),
    "timers": (*_TIMERS_ONLY, "transitions", "from", "to", "guard", "set"),
    "windows": ("count", "sum", "within", "by", "start"),
    "transition": (*_INLINE, "late"),
    "field": _FIELD,
}
_SIGNALS_ONLY = {
    "late": "Remove it; `valid_for` bounds a proposal's age.",
    "elsewhere": "Remove it: whoever proposes is told that nothing came of it.",
}

_FIXES: dict[str, str] = {
    "missing": "Add `{key}: …`.",
    "string_type": "Write a string; quote it when it looks like a number or a boolean.",
    "int_type": "Write a whole number.",
    "dict_type": "Write a mapping: `name: …` lines, indented.",
    "model_type": "Write a mapping: `key: value` lines, indented.",
    "tuple_type": "Write a list: `- …` lines, or `[…]`.",
    "greater_than_equal": "Write a larger number.",
    "less_than_equal": "Write a smaller number.",
    "literal_error": "Use one of them.",
}


def explain(error: ValidationError) -> list[Problem]:
    """All of pydantic's findings in our words."""
    return [_explain_one(details) for details in error.errors()]


def _explain_one(details: ErrorDetails) -> Problem:
    path: Path = tuple(details["loc"])
    key = str(path[-1]) if path else ""
    if details["type"] == "placet":
        return Problem(path, details["msg"], str(details["ctx"]["fix"]))
    if details["type"] == "extra_forbidden":
        return _unknown_key(path, key)
    message = "is missing" if details["type"] == "missing" else _lower(details["msg"])
    return Problem(path, message, _FIXES.get(details["type"], "Mend the value.").format(key=key))


def _unknown_key(path: Path, key: str) -> Problem:
    section = _section(path)
    if key in LATER_KEYS:
        return Problem(
            path,
            f"the key {key!r} belongs to a later version of Placet",
            "Remove it: a key that would be ignored is refused.",
        )
    if section == "top" and key in _PROPOSALS_ONLY:
        return Problem(path, f"{key} is a proposal's", "Move it to the proposals that it is of.")
    if key in _TIMERS_ONLY and section in ("signals", "proposals", "transition"):
        wrong_place = "of the timer itself" if path[0] == "timers" else "for timers only"
        return Problem(path, f"{key} is {wrong_place}", "Write it beside `transitions` of a timer, below `timers:`.")
    if section == "signals" and key in _PROPOSALS_ONLY:
        return Problem(path, f"{key} is for proposals only: signals are facts", "Remove it.")
    if section == "proposals" and key in _SIGNALS_ONLY:
        return Problem(path, f"{key} is for signals only", _SIGNALS_ONLY[key])
    return Problem(path, f"the key {key!r} is not known", suggest(key, _KNOWN[section]))


def _section(path: Path) -> str:
    if len(path) == 1:
        return "top"
    if "transitions" in path[2:3]:
        return "transition"
    if path[0] == "fields" or path[2:3] == ("payload",):
        return "field"
    return str(path[0])


def suggest(word: str, known: tuple[str, ...]) -> str:
    """`Did you mean …?` when a known word is near, else all known words."""
    near = difflib.get_close_matches(word, known, n=1)
    return f"Did you mean `{near[0]}`?" if near else f"Use one of: {', '.join(known)}."


def locate(found: Problem, document: Document | None) -> DefinitionError:
    """The error that names file and line; a single transition's keys stand inline, so its path has no index."""
    if document is None:
        dotted = ".".join(str(part) for part in found.path)
        return DefinitionError(found.message, path=dotted, fix=found.fix)
    path = _as_written(found.path, document)
    return DefinitionError(
        found.message,
        file=document.file,
        line=document.line(path),
        path=".".join(str(part) for part in path),
        fix=found.fix,
    )


def _as_written(path: Path, document: Document) -> Path:
    inline = path[2:4] == ("transitions", 0) and path[:3] not in document.lines
    return path[:2] + path[4:] if inline else path


def _lower(message: str) -> str:
    return message[:1].lower() + message[1:]
