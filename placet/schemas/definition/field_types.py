"""The types that state and payload fields can have, and which values they accept.

    string (symbols)   int (32 bit)   long (64 bit)   double (finite)   boolean
    timestamp (int, milliseconds since the epoch)   decimal (precision, scale)
    array (items: a scalar type)   map (string keys, values: a scalar type)

Written as `type`, `type | null`, or `{type: …, default: …, doc: …, symbols|items|values|precision+scale: …}`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Context, Decimal, Inexact, InvalidOperation, Overflow
from typing import Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler, StrictInt, StrictStr, model_validator
from pydantic_core import CoreSchema, PydanticCustomError

from placet.schemas.messages import Value

__all__ = [
    "SCALARS",
    "TYPES",
    "Field",
    "accepts",
    "expected",
    "in_scale",
    "is_as_typed",
    "problem",
    "widening",
    "zero_of",
]

TypeName: TypeAlias = Literal["string", "int", "long", "double", "boolean", "timestamp", "decimal", "array", "map"]
ScalarName: TypeAlias = Literal["string", "int", "long", "double", "boolean", "timestamp"]

TYPES: tuple[str, ...] = (
    "string",
    "int",
    "long",
    "double",
    "boolean",
    "timestamp",
    "decimal",
    "array",
    "map",
)
SCALARS: tuple[str, ...] = TYPES[:6]
PRECISION_MAX = 38
"""Digits of a decimal: what SQL sinks can hold."""

_EXACT = Context(prec=40, traps=[Inexact, InvalidOperation, Overflow])

_DETAILS: dict[str, str] = {"symbols": "string", "items": "array", "values": "map", "precision": "decimal"}
"""Which key belongs to which type."""


def problem(message: str, fix: str) -> PydanticCustomError:
    """An error inside a validator, with the fix that the definition's author reads."""
    return PydanticCustomError("placet", "{message}", {"message": message, "fix": fix})


class Field(BaseModel):
    """One state or payload field, as written in a definition.

    `optional` is written as `type | null`. `default` of a timestamp is int milliseconds, of a decimal a string.

    Raises (as pydantic's error): an unknown type, details that do not belong to it, a default that is no value of it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: TypeName
    optional: bool = False
    default: Any = None
    has_default: bool = False
    doc: StrictStr = ""
    symbols: tuple[StrictStr, ...] | None = None
    items: ScalarName | None = None
    values: ScalarName | None = None
    precision: StrictInt | None = None
    scale: StrictInt | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_written(cls, written: object) -> object:
        if isinstance(written, str):
            written = {"type": written}
        if not isinstance(written, dict):
            raise problem("a field is a type or a mapping", "Write `int`, `int | null` or `{type: int, …}`.")
        given = dict(written)
        for derived in ("optional", "has_default"):
            if derived in given:
                raise problem(f"{derived} is not written", "Write `type: int | null`, and `default:`.")
        kind = given.get("type")
        if isinstance(kind, str):
            given["type"], given["optional"] = _parse_type(kind)
        given["has_default"] = "default" in given
        return given

    @model_validator(mode="after")
    def _is_consistent(self) -> Field:
        for key, owner in _DETAILS.items():
            if getattr(self, key) is not None and self.type != owner:
                raise problem(f"{key} belongs to {owner} fields", f"Leave it out, or use `type: {owner}`.")
            if getattr(self, key) is None and self.type == owner and key != "symbols":
                raise problem(f"a {owner} field needs {key}", f"Add `{key}: …`.")
        if self.scale is not None and self.type != "decimal":
            raise problem("scale belongs to decimal fields", "Leave it out.")
        if self.precision is not None:
            _check_decimal_shape(self.precision, self.scale or 0)
        if self.symbols is not None and (not self.symbols or len(set(self.symbols)) != len(self.symbols)):
            raise problem("symbols must be a list of different strings", "Write `symbols: [a, b]`.")
        if self.has_default:
            object.__setattr__(self, "default", self._checked_default())
        if self.type == "decimal" and self.scale is None:
            object.__setattr__(self, "scale", 0)
        return self

    def _checked_default(self) -> Value:
        default: Value = self.default
        if self.type == "decimal" and isinstance(default, str | int) and not isinstance(default, bool):
            try:
                default = Decimal(default)
            except ArithmeticError:
                default = self.default
        if self.type == "double" and type(default) is int:
            default = float(default)
        if not accepts(self)(default):
            raise problem(
                f"the default {self.default!r} is no {expected(self)}",
                f"Write a value such as `default: {zero_of(self)}`.",
            )
        return default

    def written(self) -> dict[str, Any]:
        """The canonical form: what `Field.model_validate` reads back to an equal field."""
        form: dict[str, Any] = {"type": f"{self.type} | null" if self.optional else self.type}
        if self.has_default:
            form["default"] = str(self.default) if isinstance(self.default, Decimal) else self.default
        for key in ("doc", "symbols", "items", "values", "precision", "scale"):
            value = getattr(self, key)
            if value not in (None, ""):
                form[key] = list(value) if key == "symbols" else value
        return form

    def takes(self, source: Field) -> bool:
        """Whether every value of `source` is a value of this field; then copying needs no check."""
        shape = ("type", "items", "values", "precision", "scale")
        if any(getattr(self, key) != getattr(source, key) for key in shape) or (source.optional and not self.optional):
            return False
        return self.symbols is None or (source.symbols is not None and set(source.symbols) <= set(self.symbols))

    @classmethod
    def __get_pydantic_json_schema__(cls, _schema: CoreSchema, _handler: GetJsonSchemaHandler) -> Any:
        """What an author may write, not what the model holds."""
        return FIELD_JSON_SCHEMA


_WRITTEN_TYPE = {
    "type": "string",
    "pattern": rf"^({'|'.join(TYPES)})( *\| *null)?$",
    "description": "A type; `| null` makes it optional.",
}
_SCALAR = {"enum": list(SCALARS)}
FIELD_JSON_SCHEMA: dict[str, Any] = {
    "anyOf": [
        {**_WRITTEN_TYPE, "pattern": rf"^({'|'.join((*SCALARS,))})( *\| *null)?$"},
        {
            "type": "object",
            "properties": {
                "type": _WRITTEN_TYPE,
                "default": {
                    "description": "the value where none is given; a timestamp as milliseconds, a decimal as a string "
                    "such as '0.00'"
                },
                "doc": {"type": "string", "description": "for people; it goes into the Avro schemas, and is no rule"},
                "symbols": {
                    "type": "array",
                    "items": {"type": "string"},
                    "minItems": 1,
                    "uniqueItems": True,
                    "description": "of a string: only these",
                },
                "items": {**_SCALAR, "description": "of an array: what is in it"},
                "values": {**_SCALAR, "description": "of a map: its values; keys are text"},
                "precision": {
                    "type": "integer",
                    "minimum": 1,
                    "maximum": PRECISION_MAX,
                    "description": "of a decimal: how many digits",
                },
                "scale": {"type": "integer", "minimum": 0, "description": "of a decimal: digits after the point, or 0"},
            },
            "required": ["type"],
            "additionalProperties": False,
        },
    ]
}
"""JSON Schema of a written field, for editors."""


def _parse_type(text: str) -> tuple[str, bool]:
    name, bar, null = (part.strip() for part in text.partition("|"))
    if name not in TYPES or (bar and null != "null"):
        raise problem(f"{text!r} is no type", f"Use one of {', '.join(TYPES)}; `{TYPES[1]} | null` is optional.")
    return name, bool(bar)


def _check_decimal_shape(precision: int, scale: int) -> None:
    if not 1 <= precision <= PRECISION_MAX:
        raise problem(f"precision {precision} is out of range", f"Use 1 to {PRECISION_MAX} digits.")
    if not 0 <= scale <= precision:
        raise problem(f"scale {scale} is out of range", "Use 0 to precision.")


def _is_decimal(precision: int, scale: int) -> Callable[[Any], bool]:
    limit = Decimal(10) ** (precision - scale)

    def check(value: Any) -> bool:
        if type(value) is not Decimal or not value.is_finite():
            return False
        exponent = value.as_tuple().exponent
        return isinstance(exponent, int) and -exponent <= scale and -limit < value < limit

    return check


_SCALAR_CHECKS: dict[str, Callable[[Any], bool]] = {
    "string": lambda value: type(value) is str,
    "int": lambda value: type(value) is int and -(1 << 31) <= value < 1 << 31,
    "long": lambda value: type(value) is int and -(1 << 63) <= value < 1 << 63,
    "double": lambda value: type(value) is float and math.isfinite(value),
    "boolean": lambda value: type(value) is bool,
    "timestamp": lambda value: type(value) is int and -(1 << 63) <= value < 1 << 63,
}


def _accepts_present(field: Field) -> Callable[[Any], bool]:
    if field.symbols is not None:
        symbols = frozenset(field.symbols)
        return lambda value: type(value) is str and value in symbols
    if field.items is not None:
        item = _SCALAR_CHECKS[field.items]
        return lambda value: type(value) is list and all(map(item, value))
    if field.values is not None:
        inner = _SCALAR_CHECKS[field.values]
        return lambda value: (
            type(value) is dict and all(type(key) is str for key in value) and all(map(inner, value.values()))
        )
    if field.precision is not None:
        return _is_decimal(field.precision, field.scale or 0)
    return _SCALAR_CHECKS[field.type]


def accepts(field: Field) -> Callable[[Any], bool]:
    """The test whether a value is one of this field. No conversion: an int is no double, a bool no int."""
    check = _accepts_present(field)
    if not field.optional:
        return check
    return lambda value: value is None or check(value)


def is_as_typed(field: Field) -> bool:
    """Tell whether each value that the contract's Avro type has room for, as it is read here, is one of the field."""
    return field.symbols is None and "double" not in (field.type, field.items, field.values)


def widening(field: Field) -> Callable[[Any], Any]:
    """Return what makes whole numbers doubles where those are asked, and leaves all else as it is: JSON has no 1.0."""
    if field.type == "double":
        return _as_double
    if field.items == "double":
        return lambda value: [*map(_as_double, value)] if isinstance(value, list) else value
    if field.values == "double":
        return lambda value: {key: _as_double(one) for key, one in value.items()} if isinstance(value, dict) else value
    return lambda value: value


def _as_double(value: Any) -> Any:
    if type(value) is not int:
        return value
    try:
        return float(value)
    except OverflowError:
        return value


def in_scale(value: Decimal, scale: int) -> Decimal:
    """Return a decimal in its field's scale, digit by digit what the changelog gives back.

    Raises:
        ArithmeticError: it has more digits behind the point, or is no number.
    """
    unscaled = value.scaleb(scale, _EXACT).to_integral_exact(context=_EXACT)
    return Decimal(int(unscaled)).scaleb(-scale, _EXACT)


def expected(field: Field) -> str:
    """In words, what the field accepts, such as `string, one of a, b` or `decimal(10, 2) | null`."""
    words = field.type if field.precision is None else f"decimal({field.precision}, {field.scale or 0})"
    words += f" of {field.items or field.values}" if field.items or field.values else ""
    words += f", one of {', '.join(field.symbols)}" if field.symbols else ""
    return f"{words} | null" if field.optional else words


def zero_of(field: Field) -> str:
    """An example of a value as an author would write it."""
    if field.symbols:
        return field.symbols[0]
    examples = {"string": "''", "boolean": "false", "double": "0.0", "decimal": "'0'", "array": "[]", "map": "{}"}
    return examples.get(field.type, "0")
