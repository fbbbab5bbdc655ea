"""The machine: a definition compiled to a table that decides.

    table[kind, name, status] -> the transitions to try, in order; the first whose guard holds wins

A missing entry is an illegal transition. Late facts of a signal with `late: compensate` try the late transitions of
their entry, all other inputs the others. Everything in a machine is pure and total: no function in it raises or reads a
clock. `show`, the diagram and the gate read this same table.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import IntEnum
from operator import attrgetter
from typing import Any, Final, final

from placet.processors.arming import Arming, arming_of
from placet.processors.expressions.assignments import as_text, assign, is_boolean
from placet.processors.expressions.compile import compile_expression
from placet.processors.expressions.functions import function_digest
from placet.processors.expressions.scope import Compiled, Evaluate, Failed, FunctionCall, Scope, Variable
from placet.processors.expressions.units import refuse_wrong_units
from placet.processors.expressions.variables import BUILT_IN, payload_variables, state_variables, window_variables
from placet.processors.payloads import canonical_form, payload_check
from placet.processors.windows import Limit, Window, windows_of
from placet.schemas.codec.carried import KnownFields
from placet.schemas.definition.field_types import Field, in_scale
from placet.schemas.definition.model import Definition, ProposalRule, SignalRule, TransitionRule
from placet.schemas.definition.problems import Problem
from placet.schemas.definition.sources import keep_both
from placet.schemas.definition.timers import TimerRule
from placet.schemas.definition.yaml import Path
from placet.schemas.errors import DefinitionError
from placet.schemas.messages import Kind, Priority, Value
from placet.schemas.state import ABSENT

__all__ = [
    "Dedup",
    "Evaluate",
    "Failed",
    "Fence",
    "InputRule",
    "Machine",
    "Scope",
    "Transition",
    "compile_machine",
    "compile_problems",
]

KINDS: Final = {"signals": Kind.SIGNAL, "proposals": Kind.PROPOSAL, "timers": Kind.TIMER}


class Dedup(IntEnum):
    """What names the occasion: the record's own key, the name alone, payload fields, or the newest event_time."""

    KEY = 0
    ONCE = 1
    FIELDS = 2
    NEWEST = 3


class Fence(IntEnum):
    """What must not have changed since the base version: anything, the named fields, or nothing in particular."""

    EXACT = 0
    FIELDS = 1
    NONE = 2


@final
class Transition:
    """One way to go. `target` None means "stay"; a `guard` of None always holds.

    Every `Evaluate` reads the OLD state. A guard gives True or False, anything else is an error. The results of
    `assignments` (copy first, then set) are checked against the field's type already. `assignment_texts` and
    `number` (position under `transitions`) are for people. Late facts take one that is `late`, others never do.
    """

    def __init__(
        self,
        target: str | None,
        guard: Evaluate | None,
        guard_text: str,
        assignments: list[tuple[str, Evaluate]],
        assignment_texts: tuple[str, ...],
        number: int,
        late: bool,  # noqa: FBT001  a part as the others
    ) -> None:
        self.target = target
        self.guard = guard
        self.guard_text = guard_text
        self.assignments = assignments
        self.assignment_texts = assignment_texts
        self.number = number
        self.late = late


@final
class InputRule:
    """The rule of one input name: what its section of the definition says, and its part of the table.

    Attributes:
        transitions: by status, the transitions to try, in order.
        compensating: the same for late facts, where they have transitions of their own.
        asks_for_late: whether a fact that is older than the newest applied one of its name is judged apart.
        canonical: gives what the payload digest covers: (name, value) pairs in sorted field order, fields at their
            default left out, so that a new field with a default does not make an old retry look different.
        check_payload: gives "" or names the field whose value, as it was decoded, is none of the field.
        is_counted: whether a window counts it.
    """

    def __init__(self, kind: Kind, name: str, written: SignalRule | ProposalRule | TimerRule) -> None:
        self.kind = kind
        self.name = name
        dedup = written.dedup
        self.dedup = Dedup[dedup.upper()] if isinstance(dedup, str) else Dedup.FIELDS
        self.dedup_fields: tuple[str, ...] = () if isinstance(dedup, str) else dedup
        self.asks_for_late = isinstance(written, SignalRule) and (written.late != "apply" or dedup == "newest")
        self.ignored_elsewhere = isinstance(written, SignalRule) and written.elsewhere == "ignore"
        proposal = written if isinstance(written, ProposalRule) else None
        fence: str | tuple[str, ...] = proposal.fence if proposal else "none"
        self.fence = Fence[fence.upper()] if isinstance(fence, str) else Fence.FIELDS
        self.fence_fields: tuple[str, ...] = () if isinstance(fence, str) else fence
        self.valid_for_ms: int | None = proposal.valid_for_ms if proposal else None
        self.max_state_age_ms: int | None = proposal.max_state_age_ms if proposal else None
        self.priority = proposal.priority if proposal else Priority.NORMAL
        self.transitions: dict[str, tuple[Transition, ...]] = {}
        self.compensating: dict[str, tuple[Transition, ...]] = {}
        self.canonical = canonical_form(written.payload)
        self.check_payload = payload_check(written.payload)
        self.limits: tuple[Limit, ...] = ()
        self.is_counted = False


@dataclass(frozen=True, slots=True)
class Machine:
    """A compiled definition. `initial_fields` are the state fields of an absent entity: defaults, else None.

    `arming` holds by status the timers that belong to it, `windows` by name what is counted.
    `decimal_fields` are the state fields whose values local storage carries as text; `known_fields` sorts what a
    state of another version holds. `functions` are the calls of `python:` functions, by the place of their expression.
    """

    entity: str
    version: int
    digest: bytes
    horizon_ms: int
    initial_fields: dict[str, Value]
    rules: dict[tuple[Kind, str], InputRule]
    invariants: tuple[tuple[str, str, Evaluate], ...]
    statuses: tuple[str, ...]
    final: tuple[str, ...]
    decimal_fields: frozenset[str]
    known_fields: KnownFields
    arming: dict[str, tuple[Arming, ...]]
    windows: dict[str, Window]
    functions: tuple[tuple[str, FunctionCall], ...]

    @property
    def table(self) -> dict[tuple[Kind, str, str], tuple[Transition, ...]]:
        """The whole table, by kind, name and status."""
        return {
            (rule.kind, rule.name, status): rule.transitions.get(status, ()) + rule.compensating.get(status, ())
            for rule in self.rules.values()
            for status in rule.transitions | rule.compensating
        }


def compile_machine(definition: Definition) -> Machine:
    """Compile a definition.

    Raises:
        DefinitionError: an expression does not fit, or the code behind a `python:` function is not the one whose
            digest the definition carries; the first problem in file order.
    """
    compiler = _Compiler(definition)
    machine = compiler.machine()
    if compiler.problems:
        raise min(map(definition.error, compiler.problems), key=attrgetter("line"))
    return machine


def compile_problems(definition: Definition, known: Collection[object] = ()) -> list[DefinitionError]:
    """Everything that stands against a definition that is not published yet, in file order; empty when it is fine.

    Args:
        definition: what is to be published.
        known: texts of expressions that were published before: they may be in units that new ones may not.
    """
    compiler = _Compiler(definition, known)
    compiler.machine()
    return sorted(map(definition.error, compiler.problems), key=attrgetter("line"))


class _Compiler:
    """Compiles one definition; collects problems rather than stopping at the first."""

    def __init__(self, definition: Definition, known: Collection[object] | None = None) -> None:
        self._definition = definition
        self._known = known
        self.problems: list[Problem] = []
        self._functions: list[tuple[str, FunctionCall]] = []
        self._initial: dict[str, Value] = {name: _initial(field) for name, field in definition.fields.items()}
        self._state = state_variables(definition.fields)
        self._windows = windows_of(definition)
        self._counted = window_variables(self._windows)

    def machine(self) -> Machine:
        definition = self._definition
        self._check_sources()
        rules: dict[tuple[Kind, str], InputRule] = {}
        timers = [("timers", name, timer) for name, timer in definition.timers.items()]
        for section, name, written in (*definition.rules(), *timers):
            kind = KINDS[section]
            rule = rules[kind, name] = InputRule(kind, name, written)
            rule.is_counted = any(window.input_name == name for window in self._windows.values())
            rule.limits = tuple(self._limits((section, name, "limits"), written))
            for index, transition in enumerate(written.transitions):
                compiled = self._transition((section, name, "transitions", index), written, transition)
                rows = rule.compensating if transition.late else rule.transitions
                for status in definition.statuses_from(transition):
                    rows[status] = (*rows.get(status, ()), compiled)
        return Machine(
            entity=definition.entity,
            version=definition.version,
            digest=definition.digest,
            horizon_ms=definition.horizon_ms,
            initial_fields=self._initial,
            rules=rules,
            invariants=tuple(self._invariants()),
            statuses=definition.statuses,
            final=definition.final,
            decimal_fields=frozenset(name for name, field in definition.fields.items() if field.type == "decimal"),
            known_fields=KnownFields(definition.fields),
            arming=arming_of(definition),
            windows=self._windows,
            functions=tuple(self._functions),
        )

    def _check_sources(self) -> None:
        for reference, digest in self._definition.sources.items():
            try:
                found = function_digest(reference)
                if found == digest:
                    continue
                message = f"the code of {reference} is not the one that this definition was loaded with"
                message += f": its digest is {found} here, and {digest} there"
                problem = Problem((), message, keep_both(reference))
            except DefinitionError as error:
                problem = Problem((), error.message, error.fix)
            self.problems.append(problem)

    def _transition(
        self, path: Path, rule: SignalRule | ProposalRule | TimerRule, written: TransitionRule
    ) -> Transition:
        names = self._names(rule)
        creates = ABSENT in written.from_
        guard = self._guard((*path, "guard"), written.guard, names, creates=creates)
        fields = self._definition.fields
        assignments: list[tuple[str, Evaluate]] = [(name, names[f"payload.{name}"].read) for name in written.copied]
        for name, value in written.assigned.items():
            evaluate = self._value((*path, "set", name), value, fields[name], names, creates=creates)
            if evaluate is not None:
                assignments.append((name, evaluate))
        texts = [f"{name} = payload.{name}" for name in written.copied]
        texts += [f"{name} = {as_text(value)}" for name, value in written.assigned.items()]
        number, late = int(path[-1]), written.late
        return Transition(written.to, guard, written.guard or "", assignments, tuple(texts), number, late)

    def _names(self, rule: SignalRule | ProposalRule | TimerRule) -> dict[str, Variable]:
        return {**self._state, **payload_variables(rule.payload), **self._counted, **BUILT_IN}

    def _limits(self, path: Path, rule: SignalRule | ProposalRule | TimerRule) -> Iterator[Limit]:
        for index, text in enumerate(rule.limits if isinstance(rule, ProposalRule) else ()):
            at = (*path, index)
            compiled = self._boolean(at, text, self._names(rule), creates=True)  # it is asked before the status is
            if compiled is not None:
                limit = Limit(text, compiled, self._windows)
                if not limit.windows:
                    self.problems.append(Problem(at, "a limit reads no window", "Make it a guard."))
                yield limit

    def _guard(self, path: Path, text: str | None, names: Mapping[str, Variable], *, creates: bool) -> Evaluate | None:
        compiled = None if text is None else self._boolean(path, text, names, creates=creates)
        return compiled and compiled.evaluate

    def _boolean(self, path: Path, text: str, names: Mapping[str, Variable], *, creates: bool) -> Compiled | None:
        try:
            compiled = self._compiled(path, text, names)
            is_boolean(compiled)
            self._refuse_unset(compiled, creates=creates)
        except DefinitionError as error:
            self.problems.append(Problem(path, error.message, error.fix))
            return None
        return compiled

    def _value(
        self,
        path: Path,
        value: Any,
        field: Field,
        names: Mapping[str, Variable],
        *,
        creates: bool,
    ) -> Evaluate | None:
        try:
            if not isinstance(value, str):
                return assign(value, field)
            compiled = self._compiled(path, value, names)
            self._refuse_unset(compiled, creates=creates)
            return assign(compiled, field)
        except DefinitionError as error:
            self.problems.append(Problem(path, error.message, error.fix))
            return None

    def _compiled(self, path: Path, text: str, names: Mapping[str, Variable]) -> Compiled:
        compiled = compile_expression(text, names)
        is_new = self._known is not None and text not in self._known
        if compiled.call is not None:
            self._functions.append((".".join(map(str, path)), compiled.call))
            if is_new and text not in self._definition.sources:
                raise DefinitionError("a space stands before `python:`", fix="Remove it: the code belongs to the rule.")
        elif is_new:
            refuse_wrong_units(text, names)
        return compiled

    def _refuse_unset(self, compiled: Compiled, *, creates: bool) -> None:
        """A required field without default has no value before creation: reading it there always fails."""
        for name in compiled.reads if creates else ():
            field = self._state[name].field if name in self._state else None
            if field is not None and not field.optional and not field.has_default:
                raise DefinitionError(
                    f"{name} has no value while the entity is absent",
                    fix="Write the transition from `absent` apart, or give the field a default.",
                )

    def _invariants(self) -> Iterator[tuple[str, str, Evaluate]]:
        # An invariant speaks about the state alone, so that it can be checked on any state, without its input.
        names = {**self._state, **{name: BUILT_IN[name] for name in ("status", "version", "entity_id")}}
        for name, text in self._definition.invariants.items():
            evaluate = self._guard(("invariants", name), text, names, creates=False)
            if evaluate is not None:
                yield name, text, evaluate


def _initial(field: Field) -> Value:
    """The value of an absent entity's field; a decimal as the changelog gives it back."""
    return in_scale(field.default, field.scale or 0) if isinstance(field.default, Decimal) else field.default
