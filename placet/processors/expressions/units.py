"""Seconds where milliseconds are meant: what CEL computes is well typed, and a thousand times off, in silence.

    int(decided_at)                    seconds since the epoch; fields hold milliseconds
    duration('5m').getMilliseconds()   the part below a second, 0 here
    int(decided_at - event_time)       compiles, and fails with every input

For definitions that are new. Those that were published go on as they are: their decisions stand on the log.
What a part of an expression is, CEL itself tells: it compiles with another call in its place only if the types fit.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

from placet.processors.expressions.cel import compile_cel
from placet.processors.expressions.scope import Variable
from placet.schemas.errors import DefinitionError

__all__ = ["refuse_wrong_units"]

_QUOTED: Final = re.compile(r"\"(?:[^\"\\\n]|\\.)*\"|'(?:[^'\\\n]|\\.)*'")
_INT: Final = re.compile(r"(?<![\w.])int\s*\(")
_PART: Final = re.compile(r"\.\s*getMilliseconds\s*\(\s*\)")
_SECONDS: Final = re.compile(r"\.\s*getSeconds\s*\(")
_COMPARE: Final = "Compare times with times, such as `decided_at - event_time > duration('5m')`"


def refuse_wrong_units(text: str, names: Mapping[str, Variable]) -> None:
    """Refuse an expression in which a time or a duration becomes a number that is easily taken for milliseconds.

    Args:
        text: an expression that compiles.
        names: what it may use, by dotted name.

    Raises:
        DefinitionError: without file and line: what the number is, and what to write instead.
    """
    bare = _QUOTED.sub(lambda found: " " * len(found[0]), text)
    for start, opened, end in _calls_of_int(bare):
        before, part, after = text[:start], text[opened:end], text[end + 1 :]
        if _compiles(f"{before}int(double({part})){after}", names):
            continue  # a number or a text
        if _compiles(f"{before}({part}).getFullYear(){after}", names):
            seconds = "(… - timestamp('1970-01-01T00:00:00Z')).getSeconds()"
            raise DefinitionError(
                "int(…) of a time gives seconds, and fields hold milliseconds",
                fix=f"{_COMPARE}, and keep them in timestamp fields. If seconds are meant: `{seconds}`.",
            )
        if _compiles(f"{before}({part}).getMinutes(){after}", names):
            raise DefinitionError(
                "int(…) of a duration fails with every input", fix=f"{_COMPARE}. In seconds: `(…).getSeconds()`."
            )
    for found in () if _SECONDS.search(bare) else _PART.finditer(bare):  # who adds both knows what they are
        if not _compiles(f"{text[: found.start()]}.getFullYear(){text[found.end() :]}", names):
            raise DefinitionError(
                "getMilliseconds() of a duration gives its part below a second: 0 for 5m",
                fix=f"{_COMPARE}. All of it in seconds: `getSeconds()`.",
            )


def _calls_of_int(bare: str) -> Iterator[tuple[int, int, int]]:
    """Where each call begins, where its argument does, and where that ends."""
    for found in _INT.finditer(bare):
        depth = 1
        for at in range(found.end(), len(bare)):
            depth += (bare[at] in "([{") - (bare[at] in ")]}")
            if depth == 0:
                yield found.start(), found.end(), at
                break


def _compiles(text: str, names: Mapping[str, Variable]) -> bool:
    try:
        compile_cel(text, names)
    except DefinitionError:
        return False
    return True
