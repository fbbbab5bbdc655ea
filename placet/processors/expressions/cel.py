"""CEL, the Common Expression Language (https://cel.dev): the one module that knows cel-expr-python.

Traps of cel-expr-python 0.1.3 that this module closes, each one measured and tested:

- an evaluation error comes back as a value of type ERROR whose `plain_value()` is a truthy string
- `has(state.x)` does not test presence: it compiles to the value itself; write `state.x != null`
- an optional variable must be declared DYN; a datetime under DYN fails at run time, so optional timestamps may only be
  compared with null; decimals have no CEL type
- strings are cut at a NUL character, and lone surrogates raise: both fail before CEL sees them
- the iteration order of maps differs from process to process, so that `.map` and `.filter` over maps are refused
- a Python function loses memory with each call: `millis` is put in as CEL
- named time zones depend on the machine's zone data: only offsets such as '+02:00' are allowed
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from cel_expr_python import cel
from cel_expr_python.ext import ext_bindings, ext_math

from placet.processors.expressions.scope import DETAIL_LENGTH_MAX, Compiled, Evaluate, Failed, Scope, Variable
from placet.processors.expressions.text import calls
from placet.schemas.definition.field_types import Field
from placet.schemas.definition.problems import suggest
from placet.schemas.errors import DefinitionError

__all__ = ["compile_cel", "static_type", "to_milliseconds", "unknown_name"]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)

_CEL_TYPES: dict[str, Any] = {
    "string": cel.Type.STRING,
    "int": cel.Type.INT,
    "long": cel.Type.INT,
    "double": cel.Type.DOUBLE,
    "boolean": cel.Type.BOOL,
    "timestamp": cel.Type.TIMESTAMP,
}
_MILLIS_FIX: Final = "Give it one time or duration: `millis(decided_at)`, `millis(decided_at - event_time)`."
_BOOL: Final = cel.Type.BOOL
_ERROR: Final = cel.Type.ERROR
_UNKNOWN: Final = cel.Type.UNKNOWN

_QUOTED = re.compile(r"\"(?:[^\"\\\n]|\\.)*\"|'(?:[^'\\\n]|\\.)*'")
_CHAIN = re.compile(r"(?<![\w.])[A-Za-z_]\w*(?:\s*\.\s*[A-Za-z_]\w*)*")
_HAS = re.compile(r"\bhas\s*\(\s*((?:state|payload)\s*\.\s*\w+|\w+)\s*\)")
_ORDERED = re.compile(r"\.\s*(?:map|filter|transformList)\s*\(")
_TESTED = re.compile(r"\.\s*(?:all|exists|exists_one)\s*\(")
_ZONED = re.compile(r"\.\s*get[A-Z]\w*\s*\(\s*(?![\s)])(?!['\"][-+]?\d\d:\d\d['\"]\s*\))")
_FOUND = re.compile(r"<input>:(\d+):(\d+): (.*)")
_UNDECLARED = re.compile(r"undeclared reference to '([^']*)'")

_HINTS: tuple[tuple[str, str], ...] = (
    ("(double, int)", "Write the number with a point, such as 1.0: doubles and whole numbers do not mix."),
    ("(int, double)", "Write the number without a point, or convert with double(…): they do not mix."),
    ("null_type", "Write `dyn(null)`, so that both branches may have any type."),
    ("for 'millis'", _MILLIS_FIX),
    ("google.protobuf.", "Compare times with times, add `duration('60s')`, or take milliseconds: `millis(…)`."),
    ("recursion limit", "Split it, or use fewer parentheses."),
    ("Syntax error", "Mend the expression; strings stand in quotes, `&&`, `||` and `!` are and, or, not."),
)


def to_milliseconds(moment: datetime) -> int:
    """Milliseconds since the epoch; finer parts are cut off downwards."""
    return (moment - _EPOCH) // _MILLISECOND


def _declared_function(name: str, **overloads: Any) -> Any:
    """A function without a body: for the types of its arguments."""
    return cel.FunctionDecl(
        name,
        [
            cel.Overload(f"{name}_{of}", return_type=cel.Type.INT, parameters=[parameter], is_member=False)
            for of, parameter in overloads.items()
        ],
    )


_FUNCTIONS: Final = [
    _declared_function("millis", time=cel.Type.TIMESTAMP, duration=cel.Type.DURATION),
    _declared_function("millis_of_time", time=cel.Type.TIMESTAMP),
]
_MILLIS: Final = re.compile(r"(?<![\w.])(millis)\s*\(")
_BODIES: Final = (
    "cel.bind(millis_, {0}, millis_.getSeconds() * 1000 + millis_.getMilliseconds())",
    "cel.bind(millis_, {0}, int(millis_) * 1000 + millis_.getMilliseconds())",
)
"""What stands for `millis(…)` of a duration, and of a time."""


def compile_cel(text: str, names: Mapping[str, Variable]) -> Compiled:
    """Compile an expression through CEL.

    Args:
        text: the expression, without surrounding space.
        names: what it may use, by dotted name such as `state.count`. They are declared as variables of that very name,
            never as a map, so that a typo fails here.

    Raises:
        DefinitionError: without file and line: unknown name, wrong types, a trap.
    """
    return _Cel(text, names).compiled()


def static_type(field: Field) -> str:
    """CEL's name for the type of a field: "INT", "LIST<STRING>", "DYN" for what may be null, or "DECIMAL"."""
    if field.optional:
        return "DYN"
    if field.items or field.values:
        return str(_declared(field).name())
    return "DECIMAL" if field.type == "decimal" else str(_CEL_TYPES[field.type].name())


def _declared(field: Field) -> Any:
    if field.optional:
        return cel.Type.DYN
    if field.items:
        return cel.Type.List(_CEL_TYPES[field.items])
    if field.values:
        return cel.Type.Map(cel.Type.STRING, _CEL_TYPES[field.values])
    return _CEL_TYPES[field.type]


def unknown_name(name: str, names: Mapping[str, Variable]) -> DefinitionError:
    """The error for a name that is not known, with what may have been meant."""
    known = tuple(names)
    if name == "now":
        return DefinitionError("there is no clock", fix="Use `event_time` or `decided_at`.")
    if name.partition(".")[0] == "payload" and not any(one.startswith("payload.") for one in known):
        return DefinitionError(
            f"{name!r} is not known: there is no payload here", fix="Declare it under `payload:`; invariants see none."
        )
    return DefinitionError(f"the name {name!r} is not known", fix=suggest(name, known) + _quoting_hint(name))


def _quoting_hint(name: str) -> str:
    return "" if "." in name else f" A text stands in quotes inside: \"'{name}'\"."


class _Cel:
    """One expression on its way through CEL."""

    def __init__(self, text: str, names: Mapping[str, Variable]) -> None:
        self._text, self._names = text, names
        self._bare = _QUOTED.sub("''", text)
        mentioned = {re.sub(r"\s", "", chain) for chain in _CHAIN.findall(self._bare)}
        self._used = {
            name: variable
            for name, variable in names.items()
            if any(chain == name or chain.startswith(f"{name}.") for chain in mentioned)
        }

    @property
    def _holds_map(self) -> bool:
        return "{" in self._bare or any(variable.field.type == "map" for variable in self._used.values())

    def compiled(self) -> Compiled:
        self._refuse_traps()
        null_tests = {name for name in self._used if self._is_only_compared_with_null(name)}
        for name, variable in self._used.items():
            if name not in null_tests:
                _refuse_type(variable)
        expression = self._compile()
        readers = [_reader(v, null_test=name in null_tests) for name, v in self._used.items()]
        # Over a map, which of several errors is met first differs from process to process; a detail must not.
        detail = "an error over a map" if self._holds_map and _TESTED.search(self._bare) else ""
        return Compiled(
            _evaluator(expression, readers, detail),
            str(expression.return_type().name()),
            tuple(self._used),
        )

    def _compile(self) -> Any:
        # Only the used names are declared: that it compiles proves that the activation will be complete.
        declared = {
            name: cel.Type.DYN if self._is_only_compared_with_null(name) else _declared(variable.field)
            for name, variable in self._used.items()
        }
        try:
            if not _MILLIS.search(self._bare):
                return cel.NewEnv(variables=declared, extensions=[ext_math.ExtMath()]).compile(self._text)
            checking = cel.NewEnv(variables=declared, extensions=[ext_math.ExtMath()], functions=_FUNCTIONS)
            checking.compile(self._text)
            extensions = [ext_math.ExtMath(), ext_bindings.ExtBindings()]
            checking = cel.NewEnv(variables=declared, extensions=extensions, functions=_FUNCTIONS)
            return cel.NewEnv(variables=declared, extensions=extensions).compile(_without_millis(self._text, checking))
        except RuntimeError as error:
            raise self._explained(str(error)) from error

    def _explained(self, message: str) -> DefinitionError:
        found = _FOUND.search(message)
        what = found[3].replace(" (in container '')", "").removesuffix(" [INVALID_ARGUMENT]") if found else message
        if undeclared := _UNDECLARED.search(what):
            if undeclared[1] == "millis":
                return DefinitionError("millis takes one argument", fix=_MILLIS_FIX)
            return unknown_name(undeclared[1], self._names)
        where = f" (column {found[2]})" if found else ""
        hint = next((fix for mark, fix in _HINTS if mark in what), "Mend the expression.")
        return DefinitionError(f"{_shortened(what)}{where}", fix=hint)

    def _refuse_traps(self) -> None:
        if has := _HAS.search(self._bare):
            name = re.sub(r"\s", "", has[1])
            raise DefinitionError(f"has({name}) does not test presence", fix=f"Write `{name} != null`.")
        if _ZONED.search(self._text):
            raise DefinitionError(
                "a named time zone depends on the machine", fix="Leave it out (UTC), or give an offset: '+02:00'."
            )
        if self._holds_map and _ORDERED.search(self._bare):
            raise DefinitionError(
                "the order of a map's keys is not defined, so .map and .filter are refused beside maps",
                fix="Use `.exists`, `.all` or `in`, or keep an array.",
            )

    def _is_only_compared_with_null(self, name: str) -> bool:
        field = self._used[name].field
        if not field.optional or not _unusable(field):
            return False
        dotted = re.escape(name).replace(r"\.", r"\s*\.\s*")
        tests = rf"(?<![\w.]){dotted}\s*[!=]=\s*null\b|\bnull\s*[!=]=\s*{dotted}(?![\w.])"
        anywhere = rf"(?<![\w.]){dotted}(?!\w)"
        return len(re.findall(tests, self._bare)) == len(re.findall(anywhere, self._bare))


def _without_millis(text: str, checking: Any) -> str:
    """An expression with the body of `millis` in place of each call of it.

    A Python function would do, but each call of one loses 128 bytes in cel-expr-python 0.1.3.
    """
    while (call := next(calls(text, _MILLIS), None)) is not None:
        try:
            checking.compile(f"{call.before}millis_of_time({call.argument}){call.after}")
            body = _BODIES[1]
        except RuntimeError:
            body = _BODIES[0]
        text = f"{call.before}{body.format(call.argument)}{call.after}"
    return text


def _unusable(field: Field) -> bool:
    """Whether a present value of an optional field has no way into CEL."""
    return field.type == "decimal" or "timestamp" in (field.type, field.items, field.values)


def _refuse_type(variable: Variable) -> None:
    name, field = variable.name, variable.field
    if field.type == "decimal":
        raise DefinitionError(
            f"{name} is a decimal, which expressions cannot compute with", fix="Keep minor units (cents) in a long."
        )
    if field.optional and _unusable(field):
        raise DefinitionError(
            f"{name} is an optional timestamp: here it can only be compared with null",
            fix="Drop `| null` and give a default of 0, or test `!= null` and compare in a `python:` function.",
        )
    if "timestamp" in (field.items, field.values):
        raise DefinitionError(
            f"{name} holds timestamps, which expressions cannot reach", fix="Keep long (milliseconds) in it."
        )


def _reader(variable: Variable, *, null_test: bool) -> tuple[str, Callable[[Scope], Any]]:
    read, field = variable.read, variable.field
    if null_test:
        return variable.name, lambda scope: None if read(scope) is None else 0
    if field.type == "timestamp":
        return variable.name, lambda scope: _EPOCH + timedelta(milliseconds=read(scope))
    if field.type in ("string", "array", "map"):
        return variable.name, lambda scope: _without_nul(read(scope))
    return variable.name, read


def _without_nul(value: Any) -> Any:
    """The value itself; CEL would cut a string at a NUL character and compare the rest."""
    if isinstance(value, str):
        texts: tuple[Any, ...] = (value,)
    else:
        texts = (*value, *value.values()) if isinstance(value, dict) else tuple(value or ())
    if any(isinstance(text, str) and "\0" in text for text in texts):
        raise ValueError("a string holds a NUL character")
    return value


def _evaluator(expression: Any, readers: list[tuple[str, Callable[[Scope], Any]]], detail: str) -> Evaluate:
    run = expression.eval

    def evaluate(scope: Scope) -> Any:
        try:
            value = run(data={name: read(scope) for name, read in readers})
            plain = value.plain_value()
        except (RuntimeError, ValueError, OverflowError, TypeError) as error:
            return Failed(detail or _shortened(str(error)))
        if plain is False or type(plain) is int or type(plain) is float:
            return plain  # an error's plain value is a text
        kind = value.type()
        if plain is True:
            return True if kind == _BOOL else Failed(f"gave {kind.name()}, not a boolean")
        return Failed(detail or _shortened(str(plain))) if kind in (_ERROR, _UNKNOWN) else plain

    return evaluate


def _shortened(message: str) -> str:
    first_line = message.partition("\n")[0]
    return first_line[:DETAIL_LENGTH_MAX]
