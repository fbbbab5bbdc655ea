"""What a definition must fulfil beyond its grammar: names exist, types fit, statuses connect.

Errors are what can never be meant. What may be meant, but is worth a look, is in `coverage.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from placet.schemas.definition.field_types import Field, expected
from placet.schemas.definition.problems import Problem, suggest
from placet.schemas.definition.windows import check_windows
from placet.schemas.definition.yaml import Path
from placet.schemas.state import ABSENT

if TYPE_CHECKING:
    from placet.schemas.definition.grammar import Ways
    from placet.schemas.definition.model import Definition, ProposalRule, SignalRule, TimerRule, TransitionRule

__all__ = ["NAME", "check", "expressions"]

NAME = "[a-z][a-z0-9_]{0,63}"
"""Names of everything: snake_case, so that they are Avro names, column names and names in expressions alike."""

_NAME = re.compile(NAME)
_CEL_WORDS = frozenset(("in", "true", "false", "null"))
_GATE_COLUMNS = frozenset(("status", "version", "entity_id"))
_GATE_PREFIX = "placet_"
_ANY = "any"
_DEDUP_TYPES = frozenset(("string", "int", "long", "boolean", "timestamp"))


def expressions(definition: Definition) -> Iterator[tuple[Path, Any]]:
    """Every guard, right-hand side, limit and invariant, as written, with its path."""
    for section, name, rule in definition.ways():
        for index, text in enumerate(getattr(rule, "limits", ())):
            yield (section, name, "limits", index), text
        for index, transition in enumerate(rule.transitions):
            at = (section, name, "transitions", index)
            if transition.guard is not None:
                yield (*at, "guard"), transition.guard
            for field, value in transition.assigned.items():
                yield (*at, "set", field), value
    for name, text in definition.invariants.items():
        yield ("invariants", name), text


def check(definition: Definition) -> Iterator[Problem]:
    """Everything that is wrong with a definition whose grammar is right, expressions apart."""
    yield from _check_names(definition)
    yield from _check_statuses(definition)
    for section, name, rule in definition.rules():
        yield from _check_rule(definition, (section, name), rule)
    for name, timer in definition.timers.items():
        yield from _check_timer(definition, ("timers", name), timer)
    yield from check_windows(definition)
    yield from _check_required_fields(definition)
    yield from _check_sources(definition)


def _check_names(definition: Definition) -> Iterator[Problem]:
    yield from _check_name(("entity",), definition.entity, "an entity")
    for name in definition.fields:
        yield from _check_field_name(("fields", name), name)
        if name in _GATE_COLUMNS:
            yield Problem(("fields", name), f"the name {name!r} belongs to the gate", "Choose another name.")
    for section, name, rule in definition.rules():
        yield from _check_name((section, name), name, "an input")
        for field in rule.payload:
            yield from _check_field_name((section, name, "payload", field), field)
    for name in definition.timers:
        yield from _check_name(("timers", name), name, "a timer")
        if name in definition.signals or name in definition.proposals:
            what = "signal" if name in definition.signals else "proposal"
            message = f"{name!r} is the name of a {what} as well"
            yield Problem(("timers", name), message, "Choose another name: decisions are found by name.")
    for name in definition.windows:
        yield from _check_name(("windows", name), name, "a window")
        yield from _check_word(("windows", name), name)
    for name in definition.invariants:
        yield from _check_name(("invariants", name), name, "an invariant")
    for name in definition.proposals.keys() & definition.signals.keys():
        yield Problem(
            ("proposals", name),
            f"{name!r} is the name of a signal as well",
            "Choose another name: decisions are found by name.",
        )
    if not definition.rules():
        yield Problem((), "there is no signal and no proposal", "Add one under `signals:` or `proposals:`.")


def _check_name(path: Path, name: str, what: str) -> Iterator[Problem]:
    if not _NAME.fullmatch(name):
        yield Problem(
            path, f"{name!r} cannot be the name of {what}", "Use snake_case: a-z, 0-9 and _, at most 64 characters."
        )


def _check_field_name(path: Path, name: str) -> Iterator[Problem]:
    yield from _check_name(path, name, "a field")
    if name.startswith(_GATE_PREFIX):
        yield Problem(path, f"names with {_GATE_PREFIX} belong to the gate", "Choose another name.")
    yield from _check_word(path, name)


def _check_word(path: Path, name: str) -> Iterator[Problem]:
    if name in _CEL_WORDS:
        yield Problem(path, f"{name!r} is a word of the expression language", "Choose another name.")


def _check_statuses(definition: Definition) -> Iterator[Problem]:
    for index, status in enumerate(definition.statuses):
        at = ("statuses", index)
        if status == ABSENT:
            yield Problem(at, "`absent` is built in", "Remove it; use it in `from` and `to` as it is.")
        elif status == _ANY:
            yield Problem(at, "`any` stands for all statuses", "Choose another name.")
        else:
            yield from _check_name(at, status, "a status")
    for index, status in enumerate(definition.final):
        yield from _check_status(("final", index), status, definition.statuses)


def _check_status(path: Path, status: str, known: tuple[str, ...]) -> Iterator[Problem]:
    if status not in known:
        yield Problem(path, f"the status {status!r} is not declared", suggest(status, known))


def _check_rule(definition: Definition, path: Path, rule: SignalRule | ProposalRule) -> Iterator[Problem]:
    yield from _check_dedup(path, rule)
    yield from _check_late(path, rule)
    fence = getattr(rule, "fence", "none")
    for index, name in enumerate(fence if isinstance(fence, tuple) else ()):
        known = ("status", *definition.fields)
        if name not in known:
            yield Problem((*path, "fence", index), f"the field {name!r} is not declared", suggest(name, known))
    for key in ("valid_for", "max_state_age"):
        bound_ms = getattr(rule, f"{key}_ms", None)
        if bound_ms is not None and bound_ms > definition.horizon_ms:
            yield Problem(
                (*path, key),
                "longer than the horizon: such an old proposal is TOO_LATE anyway",
                "Shorten it, or lengthen `horizon`.",
            )
    for index, transition in enumerate(rule.transitions):
        yield from _check_transition(definition, (*path, "transitions", index), rule.payload, transition)
    yield from _check_shadowed(definition, path, rule)


def _check_timer(definition: Definition, path: Path, timer: TimerRule) -> Iterator[Problem]:
    if timer.after_ms is not None and timer.after_ms < 1_000:
        yield Problem((*path, "after"), "shorter than a second", "Write `1s` or more.")
    field = definition.fields.get(timer.field)
    if timer.field and field is None:
        known = tuple(name for name, one in definition.fields.items() if one.type == "timestamp")
        yield Problem((*path, "at"), f"the state has no field {timer.field!r}", suggest(timer.field, known))
    elif field is not None and field.type != "timestamp":
        yield Problem((*path, "at"), f"{timer.field} is {expected(field)}", "Use a field of type timestamp.")
    for index, transition in enumerate(timer.transitions):
        at = (*path, "transitions", index)
        if ABSENT in transition.from_:
            yield Problem((*at, "from"), "an absent entity has no timers", "Take `absent` out of `from`.")
        if transition.copied:
            yield Problem((*at, "copy"), "a timer carries no payload", "Use `set`.")
        if transition.late:
            yield Problem((*at, "late"), "late is for signals only", "Remove it.")
        yield from _check_transition(definition, at, timer.payload, transition)
    yield from _check_shadowed(definition, path, timer)


def _check_dedup(path: Path, rule: SignalRule | ProposalRule) -> Iterator[Problem]:
    for index, name in enumerate(rule.dedup if isinstance(rule.dedup, tuple) else ()):
        at = (*path, "dedup", index)
        field = rule.payload.get(name)
        if field is None:
            yield Problem(at, f"the payload has no field {name!r}", suggest(name, tuple(rule.payload)))
        elif field.optional or field.type not in _DEDUP_TYPES:
            yield Problem(
                at,
                f"{name} is {expected(field)}: it cannot name an occasion",
                "Use required fields of type string, int, long, boolean or timestamp.",
            )


def _check_late(path: Path, rule: SignalRule | ProposalRule) -> Iterator[Problem]:
    """Late facts have transitions of their own where the rule says `late: compensate`, and nowhere else."""
    marked = [index for index, transition in enumerate(rule.transitions) if transition.late]
    late = getattr(rule, "late", None)
    if late != "compensate":
        why = "late is for signals only" if late is None else "is never tried: the rule does not say `late: compensate`"
        for index in marked:
            yield Problem((*path, "transitions", index, "late"), why, "Remove it.")
        return
    at = (*path, "late")
    if rule.dedup in ("newest", "once"):
        why = "remembers no late fact: a retry would count again" if rule.dedup == "newest" else "takes no second fact"
        yield Problem(at, f"`dedup: {rule.dedup}` {why}", "Leave `dedup` out, or name payload fields.")
    if not marked:
        yield Problem(at, "no transition is for late facts", "Mark one with `late: true`, or write `late: refuse`.")
    elif len(marked) == len(rule.transitions):
        yield Problem(at, "all transitions are for late facts", "Add one without `late: true`.")


def _check_transition(
    definition: Definition, path: Path, payload: Mapping[str, Field], transition: TransitionRule
) -> Iterator[Problem]:
    known = (*definition.statuses, ABSENT)
    if _ANY in transition.from_ and len(transition.from_) > 1:
        yield Problem((*path, "from"), "`any` stands alone", "Write `from: any`, or a list of statuses.")
    for status in transition.from_ if _ANY not in transition.from_ else ():
        yield from _check_status((*path, "from"), status, (*known, _ANY))
    if transition.to is not None:
        yield from _check_status((*path, "to"), transition.to, known)
    yield from _check_direction(definition, path, transition)
    yield from _check_copied(definition.fields, path, payload, transition)
    for name in transition.assigned:
        if name not in definition.fields:
            yield _undeclared((*path, "set", name), name, definition.fields)


def _check_direction(definition: Definition, path: Path, transition: TransitionRule) -> Iterator[Problem]:
    assigns = bool(transition.copied or transition.assigned)
    for status in transition.from_:
        if status in definition.final and transition.to not in (None, status, ABSENT):
            yield Problem(
                (*path, "to"), f"{status} is final: it may be left only to `absent`", "Take it out of `from`."
            )
    if ABSENT in transition.from_ and transition.to in (None, ABSENT) and assigns:
        yield Problem(path, "an absent entity has no fields to set", "Add `to: <status>` to create it.")
    elif transition.to == ABSENT and assigns:
        yield Problem(path, "a deleted entity has no fields to set", "Remove `copy` and `set`.")


def _check_copied(
    fields: Mapping[str, Field], path: Path, payload: Mapping[str, Field], transition: TransitionRule
) -> Iterator[Problem]:
    at = (*path, "copy")
    for name in transition.copied:
        if name not in payload:
            yield Problem(at, f"the payload has no field {name!r}", suggest(name, tuple(payload)))
        elif name not in fields:
            yield _undeclared(at, name, fields)
        elif not fields[name].takes(payload[name]):
            yield Problem(
                at,
                f"{name} is {expected(payload[name])} in the payload, but {expected(fields[name])} in the state",
                "Give both the same type, or use `set` with an expression.",
            )
        if name in transition.assigned:
            yield Problem(at, f"{name} is in `set` as well", "Keep one of them.")


def _undeclared(path: Path, name: str, fields: Mapping[str, Field]) -> Problem:
    return Problem(path, f"the field {name!r} is not declared under `fields`", suggest(name, tuple(fields)))


def _check_shadowed(definition: Definition, path: Path, rule: Ways) -> Iterator[Problem]:
    """A transition without guard always holds: one that stands after it is never tried."""
    taken_by: dict[bool, set[str]] = {False: set(), True: set()}
    for index, transition in enumerate(rule.transitions):
        leaves, taken = definition.statuses_from(transition), taken_by[transition.late]
        if leaves and taken.issuperset(leaves):
            yield Problem(
                (*path, "transitions", index),
                "is never tried: one without guard stands before it",
                "Move it up, or give the earlier one a guard.",
            )
        if transition.guard is None:
            taken.update(leaves)


def _check_required_fields(definition: Definition) -> Iterator[Problem]:
    """A required field without default must get its value at creation: it is never null while the entity is there."""
    required = [name for name, field in definition.fields.items() if not field.optional and not field.has_default]
    for section, name, rule in definition.rules():
        for index, transition in enumerate(rule.transitions):
            if ABSENT not in transition.from_ or transition.to in (None, ABSENT):
                continue
            missing = [f for f in required if f not in transition.copied and f not in transition.assigned]
            if missing:
                yield Problem(
                    (section, name, "transitions", index),
                    f"creates the entity without {', '.join(missing)}",
                    "Set or copy it here, give it a default, or make it `| null`.",
                )


def _check_sources(definition: Definition) -> Iterator[Problem]:
    used = {text for _, text in expressions(definition) if isinstance(text, str)}
    for reference in definition.sources.keys() - used:
        yield Problem(("sources", reference), "no expression uses this function", "Remove it.")
