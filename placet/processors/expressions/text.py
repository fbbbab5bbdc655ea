"""The text of an expression: what stands in quotes blanked out, and its calls."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

__all__ = ["Called", "blanked", "calls"]

_QUOTED: Final = re.compile(
    r"""(?<!\w)[rR](?P<raw>'''|\"\"\"|'|").*?(?P=raw)"""
    r"""|(?P<three>'''|\"\"\")(?:[^\\]|\\.)*?(?P=three)"""
    r"""|(?P<one>'|")(?:[^\\\n]|\\.)*?(?P=one)""",
    re.DOTALL,
)


class Called(NamedTuple):
    """A call in an expression: its function, the text before it, its argument, the text after it."""

    name: str
    before: str
    argument: str
    after: str


def blanked(text: str) -> str:
    """Return a text of the same length, with nothing but spaces between its quotes."""
    return _QUOTED.sub(lambda found: f"{found[0][-1]}{' ' * (len(found[0]) - 2)}{found[0][-1]}", text)


def calls(text: str, opening: re.Pattern[str]) -> Iterator[Called]:
    """Return the calls that a pattern finds, by their names and opening parentheses, in the order of the text."""
    bare = blanked(text)
    for found in opening.finditer(bare):
        depth = 1
        for at in range(found.end(), len(bare)):
            depth += (bare[at] in "([{") - (bare[at] in ")]}")
            if depth == 0:
                yield Called(found[found.lastindex or 0], text[: found.start()], text[found.end() : at], text[at + 1 :])
                break
