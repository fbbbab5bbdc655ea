"""The input of an expression, its result when it can't be evaluated, and its compiled form."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple, TypeAlias, final

from placet.schemas.definition.field_types import Field
from placet.schemas.messages import Value

__all__ = ["DETAIL_LENGTH_MAX", "Compiled", "Evaluate", "Failed", "FunctionCall", "Scope", "Variable"]

DETAIL_LENGTH_MAX = 200
"""Longest detail of a failure, in characters: it goes into the decision."""

_NO_WINDOWS: Final[Mapping[str, int]] = MappingProxyType({})
_ADDRESS: Final = re.compile(r"\b0x[0-9a-fA-F]+")


@final
class Scope:
    """All values that guards, right-hand sides of `set`, limits and invariants can read. Times are ms since the epoch.

    `fields`, `status` and `version` are those of the OLD state for guards and `set`, of the new state for invariants.
    `window` holds by name what windows count, without the input; invariants have none. A `python:` function gets a
    copy of its own, with `fields`, `payload` and `window` read-only.
    """

    def __init__(
        self,
        fields: Mapping[str, Value],
        payload: Mapping[str, Value],
        status: str,
        version: int,
        entity_id: str,
        event_time: int,
        decided_at: int,
        proposer: str,
        window: Mapping[str, int] = _NO_WINDOWS,
    ) -> None:
        self.fields = fields
        self.payload = payload
        self.status = status
        self.version = version
        self.entity_id = entity_id
        self.event_time = event_time
        self.decided_at = decided_at
        self.proposer = proposer
        self.window = window

    def read_only(self) -> Scope:
        """Return a copy: neither state nor payload can be changed through it."""
        return Scope(
            MappingProxyType(_copied(self.fields)), MappingProxyType(_copied(self.payload)), self.status, self.version,
            self.entity_id, self.event_time, self.decided_at, self.proposer, MappingProxyType(dict(self.window)),
        )  # fmt: skip

    def after(self, fields: Mapping[str, Value], status: str, version: int) -> Scope:
        """Return the scope of the state after: its invariants are about that one."""
        return Scope(
            fields, self.payload, status, version, self.entity_id, self.event_time, self.decided_at, self.proposer
        )


def _copied(values: Mapping[str, Value]) -> dict[str, Value]:
    return {name: value.copy() if isinstance(value, list | dict) else value for name, value in values.items()}


class Failed(NamedTuple):
    """An expression that could not be evaluated, or gave a value of a wrong type. `detail` says why, in one line."""

    detail: str


Evaluate: TypeAlias = Callable[[Scope], Value | Failed]
"""A compiled expression: total and pure; it never raises."""


@final
class FunctionCall:
    """A `python:` function as expressions call it: total, its exceptions caught.

    Attributes:
        reference: names it.
        scope: of the call that runs, None between two. Another thread may look: nothing bounds the time of a call.
    """

    def __init__(self, function: Callable[[Scope], Any], reference: str) -> None:
        self._function = function
        self.reference = reference
        self.scope: Scope | None = None

    def evaluate(self, scope: Scope) -> Any:
        """Call it."""
        self.scope = scope
        try:
            return self._function(scope.read_only())
        except RecursionError:  # what Python says about it depends on who called
            return Failed(f"{self.reference}: RecursionError")
        except KeyboardInterrupt:  # a person's, outside a gate
            raise
        except BaseException as error:  # noqa: BLE001  a user's code may raise anything: it refuses an input
            return Failed(f"{self.reference}: {type(error).__name__}: {_text_of(error)}"[:DETAIL_LENGTH_MAX])
        finally:
            self.scope = None


def _text_of(error: BaseException) -> str:
    """Return what an exception says, in a form that is the same in each run and can be written down."""
    try:
        text = str(error)
    except Exception:  # noqa: BLE001  that is a user's code too
        return "it can't be shown"
    # Memory addresses differ from run to run; a decision's detail must not.
    return _ADDRESS.sub("0x…", text.encode("utf-8", "backslashreplace").decode())


class Variable(NamedTuple):
    """One name that an expression may use: its field type, and how it is read from the scope."""

    name: str
    field: Field
    read: Callable[[Scope], Any]


class Compiled(NamedTuple):
    """A compiled expression.

    `result` is the static type: CEL's name ("BOOL", "LIST<INT>", "DYN", …), or "PYTHON" for a function. `source` is the
    variable when the expression is nothing but a path, `call` the function's. `reads` are the names that it uses.
    """

    evaluate: Evaluate
    result: str
    reads: tuple[str, ...]
    source: Variable | None = None
    call: FunctionCall | None = None

    @property
    def is_constant(self) -> bool:
        """Whether it reads nothing, so that it gives the same value every time."""
        return not self.reads and self.result != "PYTHON"
