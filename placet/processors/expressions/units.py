"""Numbers in a unit that is not meant: what CEL computes is well typed, and a thousand times off, in silence.

    int(decided_at)                    seconds since the epoch; fields hold milliseconds
    decided_at.getSeconds()            the second of the minute
    duration('5m').getMilliseconds()   the part below a second, 0 here
    timestamp(state.at_ms)             takes seconds
    int(decided_at - event_time)       compiles, and fails with every input; `duration(5)` and `duration('1d')` too

For definitions that are new. Those that were published go on as they are: their decisions stand on the log.
What a part of an expression is, CEL itself tells: it compiles with another call in its place only if the types fit.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from placet.processors.expressions.cel import compile_cel
from placet.processors.expressions.scope import Failed, Scope, Variable
from placet.processors.expressions.text import Called, blanked, calls
from placet.schemas.errors import DefinitionError

__all__ = ["refuse_wrong_units"]

_CALL: Final = re.compile(r"(?<![\w.])(int|timestamp|duration)\s*\(|\.\s*(getSeconds|getMilliseconds)\s*\(")
_LITERAL: Final = re.compile(r"(?<![\w.])(timestamp|duration)\s*\(\s*(\"[^\"\\\n]*\"|'[^'\\\n]*')\s*\)")
_SECONDS: Final = re.compile(r"\.\s*getSeconds\s*\(")
_NOTHING: Final = Scope({}, {}, "", 0, "", 0, 0, "")
_ZERO: Final = {"int": "0", "long": "0", "double": "0.0"}

_COMPARE: Final = "Compare times with times, such as `decided_at - event_time > duration('5m')`"
_MILLIS: Final = f"{_COMPARE}, or take milliseconds: `millis(…)`."
_BELOW: Final = {
    "getMilliseconds": ("second, 0 to 999", "millis(…) % 1000"),
    "getSeconds": ("minute, 0 to 59", "millis(…) / 1000 % 60"),
}
_FROM_NUMBER: Final = {
    "timestamp": (
        "takes seconds, and fields hold milliseconds",
        "Compare milliseconds, such as `millis(decided_at) - state.at_ms > 300000`, or keep times in timestamp fields.",
    ),
    "duration": (
        "fails with every input",
        "Write a text with a unit, such as `duration('300s')`, or compare milliseconds: `millis(…) > 300000`.",
    ),
}
_WRITTEN: Final = {
    "duration": "Units are h, m, s and ms: `duration('24h')`.",
    "timestamp": "Write date, time and zone: `timestamp('2026-01-31T12:00:00Z')`.",
}


def refuse_wrong_units(text: str, names: Mapping[str, Variable]) -> None:
    """Refuse an expression in which a time or a duration becomes, or comes from, a number in another unit.

    Args:
        text: an expression that compiles.
        names: what it may use, by dotted name.

    Raises:
        DefinitionError: without file and line: what the number is, and what to write instead.
    """
    bare = blanked(text)
    _refuse_unreadable(text, bare)
    for call in calls(text, _CALL):
        if call.name == "int":
            _refuse_int(call, names)
        elif call.name in _FROM_NUMBER:
            _refuse_number(call, names)
        else:
            _refuse_part(call, names, adds_seconds=bool(_SECONDS.search(bare)))
    _refuse_mixed(text, bare, names)


def _refuse_int(call: Called, names: Mapping[str, Variable]) -> None:
    before, part, after = call.before, call.argument, call.after
    if _compiles(f"{before}int(double({part})){after}", names):
        return  # a number or a text
    if _compiles(f"{before}({part}).getFullYear(){after}", names):
        raise DefinitionError(
            "int(…) of a time gives seconds, and fields hold milliseconds",
            fix=f"{_MILLIS} If seconds are meant: `millis(…) / 1000`.",
        )
    if _compiles(f"{before}({part}).getMinutes(){after}", names):
        raise DefinitionError(
            "int(…) of a duration fails with every input", fix=f"{_MILLIS} In seconds: `(…).getSeconds()`."
        )


def _refuse_number(call: Called, names: Mapping[str, Variable]) -> None:
    """A number given to `timestamp`, which takes seconds, or to `duration`, which takes none."""
    if call.name == "timestamp" and call.argument.strip() == "0":
        return  # the epoch, in any unit
    if _is_whole_number(call, names):
        what, fix = _FROM_NUMBER[call.name]
        raise DefinitionError(f"{call.name}(…) of a number {what}", fix=fix)


def _is_whole_number(call: Called, names: Mapping[str, Variable]) -> bool:
    def fits(added: str) -> bool:
        return _compiles(f"{call.before}{call.name}(({call.argument}) + {added}){call.after}", names)

    if not fits("0"):
        return False
    return not fits("''") or any(  # what may be null fits everywhere
        variable.field.optional and variable.field.type in ("int", "long") and _found(name, call.argument)
        for name, variable in names.items()
    )


def _refuse_part(call: Called, names: Mapping[str, Variable], *, adds_seconds: bool) -> None:
    """`getSeconds` of a time, `getMilliseconds` of a time or a duration."""
    if call.argument.strip() or _compiles(f"{call.before}.getFullYear(){call.after}", names):
        below, instead = _BELOW[call.name]
        raise DefinitionError(
            f"{call.name}() of a time gives its part below a {below}", fix=f"{_MILLIS} That part: `{instead}`."
        )
    if call.name == "getMilliseconds" and not adds_seconds:  # who adds both knows what they are
        raise DefinitionError(
            "getMilliseconds() of a duration gives its part below a second: 0 for 5m",
            fix=f"{_MILLIS} In seconds: `getSeconds()`.",
        )


def _refuse_unreadable(text: str, bare: str) -> None:
    """A constant such as `duration('1d')`, which a definition knows elsewhere, and CEL does not."""
    for found in _LITERAL.finditer(bare):
        constant = text[found.start() : found.end()]
        if isinstance(compile_cel(constant, {}).evaluate(_NOTHING), Failed):
            raise DefinitionError(f"{constant} fails with every input", fix=_WRITTEN[found[1]])


def _refuse_mixed(text: str, bare: str, names: Mapping[str, Variable]) -> None:
    """An optional number beside a time: CEL lets it pass, and it fails, or is never equal."""
    for name, variable in names.items():
        zero = _ZERO.get(variable.field.type) if variable.field.optional else None
        for at, end in _found(name, bare) if zero else ():
            if re.match(r"\s*[!=]=\s*null\b", bare[end:]) or re.search(r"\bnull\s*[!=]=\s*$", bare[:at]):
                continue
            said = _says(f"{text[:at]}({name} + {zero}){text[end:]}", names)
            if "google.protobuf" in said or "'millis'" in said:
                raise DefinitionError(
                    f"{name} is a number, and stands beside a time: this fails, or is never equal",
                    fix=f"Compare milliseconds: `millis(decided_at) - {name} > 300000`. Or make it a timestamp.",
                )


def _found(name: str, bare: str) -> list[tuple[int, int]]:
    """Where a name stands."""
    dotted = re.escape(name).replace(r"\.", r"\s*\.\s*")
    return [found.span() for found in re.finditer(rf"(?<![\w.]){dotted}(?!\w)", bare)]


def _compiles(text: str, names: Mapping[str, Variable]) -> bool:
    return not _says(text, names)


def _says(text: str, names: Mapping[str, Variable]) -> str:
    """What is wrong with an expression; "" if it compiles."""
    try:
        compile_cel(text, names)
    except DefinitionError as error:
        return error.message
    return ""
