"""Expressions: from the text in a definition to a function of the scope. The one module that knows CEL.

    literal          10, true, null, 'high'      ─► a constant
    path             payload.x, state.y, status  ─► a plain accessor, never through CEL
    python:…         a function's name           ─► that function, its exceptions caught
    everything else  state.count < 10            ─► CEL, type-checked here, at load

Traps of cel-expr-python 0.1.3 that this module closes, each one measured and tested:

- an evaluation error comes back as a value of type ERROR whose `plain_value()` is a truthy string
- `has(state.x)` does not test presence: it compiles to the value itself; write `state.x != null`
- an optional variable must be declared DYN; a datetime under DYN fails at run time, so optional timestamps may only be
  compared with null; decimals have no CEL type
- strings are cut at a NUL character, and lone surrogates raise: both fail before CEL sees them
- the iteration order of maps differs from process to process, so that `.map` and `.filter` over maps are refused
- named time zones depend on the machine's zone data: only offsets such as '+02:00' are allowed
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any, NamedTuple

from cel_expr_python import cel
from cel_expr_python.ext import ext_math

from placet.processors.scope import Evaluate, Failed, Scope
from placet.schemas.definition_errors import suggest
from placet.schemas.errors import DefinitionError
from placet.schemas.field_types import Field
from placet.schemas.functions import is_function, load_function

__all__ = ["SOURCE_BYTES_MAX", "Compiled", "Variable", "compile_expression", "to_milliseconds"]

SOURCE_BYTES_MAX = 4096
"""Longest expression, in UTF-8 bytes."""

DETAIL_LENGTH_MAX = 200

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


class Variable(NamedTuple):
    """One name that an expression may use: its field type, and how it is read from the scope."""

    name: str
    field: Field
    read: Callable[[Scope], Any]


class Compiled(NamedTuple):
    """A compiled expression.

    `result` is the static type: CEL's name ("BOOL", "LIST<INT>", "DYN", …), or "PYTHON" for a function. `source` is the
    variable when the expression is nothing but a path. `reads` are the names that it uses.
    """

    evaluate: Evaluate
    result: str
    reads: tuple[str, ...]
    source: Variable | None = None

    @property
    def is_constant(self) -> bool:
        """Whether it reads nothing, so that it gives the same value every time."""
        return not self.reads and self.result != "PYTHON"


_CEL_TYPES: dict[str, Any] = {
    "string": cel.Type.STRING,
    "int": cel.Type.INT,
    "long": cel.Type.INT,
    "double": cel.Type.DOUBLE,
    "boolean": cel.Type.BOOL,
    "timestamp": cel.Type.TIMESTAMP,
}
_BOOL, _ERROR, _UNKNOWN = cel.Type.BOOL, cel.Type.ERROR, cel.Type.UNKNOWN

_PATH = re.compile(r"(?:state|payload)\.[a-z][a-z0-9_]*|[a-z][a-z0-9_]*")
_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,18})")
_DOUBLE = re.compile(r"-?[0-9]{1,18}\.[0-9]{1,18}")
_TEXT = re.compile(r"'([^'\\\n\r]*)'|\"([^\"\\\n\r]*)\"")
_WORDS: dict[str, bool | None] = {"true": True, "false": False, "null": None}

_QUOTED = re.compile(r"\"(?:[^\"\\\n]|\\.)*\"|'(?:[^'\\\n]|\\.)*'")
_CHAIN = re.compile(r"(?<![\w.])[A-Za-z_]\w*(?:\s*\.\s*[A-Za-z_]\w*)*")
_HAS = re.compile(r"\bhas\s*\(\s*((?:state|payload)\s*\.\s*\w+|\w+)\s*\)")
_ORDERED = re.compile(r"\.\s*(?:map|filter|transformList)\s*\(")
_ZONED = re.compile(r"\.\s*get[A-Z]\w*\s*\(\s*(?![\s)])(?!['\"][-+]?\d\d:\d\d['\"]\s*\))")
_FOUND = re.compile(r"<input>:(\d+):(\d+): (.*)")
_UNDECLARED = re.compile(r"undeclared reference to '([^']*)'")
_ADDRESS = re.compile(r"\b0x[0-9a-fA-F]+")

_HINTS: tuple[tuple[str, str], ...] = (
    ("(double, int)", "Write the number with a point, such as 1.0: doubles and whole numbers do not mix."),
    ("(int, double)", "Write the number without a point, or convert with double(…): they do not mix."),
    ("null_type", "Write `dyn(null)`, so that both branches may have any type."),
    ("google.protobuf.Timestamp", "Compare times with times, add `duration('60s')`."),
    ("recursion limit", "Split it, or use fewer parentheses."),
    ("Syntax error", "Mend the expression; strings stand in quotes, `&&`, `||` and `!` are and, or, not."),
)


def compile_expression(text: str, names: Mapping[str, Variable]) -> Compiled:
    """Compile one expression against the names that it may use.

    Args:
        text: the expression, as in the definition.
        names: what is known, by dotted name such as `state.count`.

    Raises:
        DefinitionError: without file and line (the caller knows them): unknown name, wrong types, a trap.
    """
    text = text.strip()
    if not text:
        raise DefinitionError("the expression is empty", fix="Leave the key out, or write an expression.")
    if len(text.encode()) > SOURCE_BYTES_MAX:
        raise DefinitionError(
            f"the expression is longer than {SOURCE_BYTES_MAX} bytes", fix="Use `python:package.module:function`."
        )
    if is_function(text):
        return Compiled(_call(load_function(text), text), "PYTHON", ())
    return _literal(text) or _path(text, names) or _Cel(text, names).compiled()


def to_milliseconds(moment: datetime) -> int:
    """Milliseconds since the epoch; finer parts are cut off downwards."""
    return (moment - _EPOCH) // _MILLISECOND


def _literal(text: str) -> Compiled | None:
    if text in _WORDS:
        return _constant(_WORDS[text], "NULL" if text == "null" else "BOOL")
    if _INTEGER.fullmatch(text) and -(1 << 63) <= int(text) < 1 << 63:
        return _constant(int(text), "INT")
    if _DOUBLE.fullmatch(text):
        return _constant(float(text), "DOUBLE")
    if match := _TEXT.fullmatch(text):
        return _constant(match[1] if match[1] is not None else match[2], "STRING")
    return None


def _constant(value: Any, result: str) -> Compiled:
    return Compiled(lambda _scope: value, result, ())


def _path(text: str, names: Mapping[str, Variable]) -> Compiled | None:
    if text in names:
        variable = names[text]
        return Compiled(variable.read, _static_type(variable.field), (text,), variable)
    if _PATH.fullmatch(text):
        raise _unknown_name(text, names)
    return None


def _static_type(field: Field) -> str:
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


def _unknown_name(name: str, names: Mapping[str, Variable]) -> DefinitionError:
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


def _call(function: Callable[[Scope], Any], reference: str) -> Evaluate:
    def evaluate(scope: Scope) -> Any:
        view = scope._replace(fields=MappingProxyType(scope.fields), payload=MappingProxyType(scope.payload))
        try:
            return function(view)
        except Exception as error:  # noqa: BLE001  a user's code may raise anything; it must refuse, not stop the gate
            # Memory addresses differ from run to run; a decision's detail must not.
            detail = _ADDRESS.sub("0x…", f"{reference}: {type(error).__name__}: {error}")
            return Failed(detail[:DETAIL_LENGTH_MAX])

    return evaluate


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

    def compiled(self) -> Compiled:
        self._refuse_traps()
        null_tests = {name for name in self._used if self._is_only_compared_with_null(name)}
        for name, variable in self._used.items():
            if name not in null_tests:
                _refuse_type(variable)
        expression = self._compile()
        return Compiled(
            _evaluator(expression, [_reader(v, name in null_tests) for name, v in self._used.items()]),
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
            return cel.NewEnv(variables=declared, extensions=[ext_math.ExtMath()]).compile(self._text)
        except RuntimeError as error:
            raise self._explained(str(error)) from error

    def _explained(self, message: str) -> DefinitionError:
        found = _FOUND.search(message)
        what = found[3].replace(" (in container '')", "").removesuffix(" [INVALID_ARGUMENT]") if found else message
        if undeclared := _UNDECLARED.search(what):
            return _unknown_name(undeclared[1], self._names)
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
        holds_map = "{" in self._bare or any(variable.field.type == "map" for variable in self._used.values())
        if holds_map and _ORDERED.search(self._bare):
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


def _reader(variable: Variable, null_test: bool) -> tuple[str, Callable[[Scope], Any]]:  # noqa: FBT001  two-valued
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
    texts = (
        (value,) if isinstance(value, str) else (*value, *value.values()) if isinstance(value, dict) else value or ()
    )
    if any(isinstance(text, str) and "\0" in text for text in texts):
        raise ValueError("a string holds a NUL character")
    return value


def _evaluator(expression: Any, readers: list[tuple[str, Callable[[Scope], Any]]]) -> Evaluate:
    run = expression.eval

    def evaluate(scope: Scope) -> Any:
        try:
            value = run(data={name: read(scope) for name, read in readers})
            plain = value.plain_value()
        except (RuntimeError, ValueError, OverflowError, TypeError) as error:
            return Failed(_shortened(str(error)))
        if plain is False or type(plain) is int or type(plain) is float:
            return plain  # an error's plain value is a text
        kind = value.type()
        if plain is True:
            return True if kind == _BOOL else Failed(f"gave {kind.name()}, not a boolean")
        return Failed(_shortened(str(plain))) if kind in (_ERROR, _UNKNOWN) else plain

    return evaluate


def _shortened(message: str) -> str:
    first_line = message.partition("\n")[0]
    return first_line[:DETAIL_LENGTH_MAX]
