"""`python:` functions as a definition names them, and the digests of their code that it carries in `sources`.

    python:shop.rules:cheap_enough      `def cheap_enough(scope)` in shop/rules.py
    python:shop.rules:cheap_enough@2    `def cheap_enough_v2(scope)` there

A version is a function of its own, with a name of its own: one image holds as many as are needed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from placet.schemas.definition.grammar import FUNCTION

__all__ = ["ChangedCode", "FunctionName", "changed_code", "function_name", "keep_both"]

_WRITTEN: Final = re.compile(rf"{FUNCTION}([^:@\s]+):([^:@\s]+?)(?:@([1-9][0-9]{{0,8}}))?")


class FunctionName(NamedTuple):
    """What a reference names. `version` is None for a function without one."""

    module: str
    name: str
    version: int | None

    @property
    def in_python(self) -> str:
        """The function's name in its module."""
        return self.name if self.version is None else f"{self.name}_v{self.version}"

    def at(self, version: int | None) -> FunctionName:
        """Return another version of it."""
        return self._replace(version=version)

    def __str__(self) -> str:
        """The name as definitions write it, without the module."""
        return self.name if self.version is None else f"{self.name}@{self.version}"


class ChangedCode(NamedTuple):
    """A function that two definitions name alike, and that has not the same code in both: digests, as hex."""

    reference: str
    was: str
    comes: str


def function_name(reference: str) -> FunctionName | None:
    """Take a reference apart; None where it names no function."""
    match = _WRITTEN.fullmatch(reference)
    if match is None or not all(part.isidentifier() for part in (*match[1].split("."), match[2])):
        return None
    return FunctionName(match[1], match[2], int(match[3]) if match[3] else None)


def changed_code(old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[ChangedCode]:
    """Compare the `sources` of two definitions."""
    for reference, digest in new.items():
        before = old.get(reference, digest)
        if before != digest:
            yield ChangedCode(reference, before, digest)


def keep_both(reference: str) -> str:
    """Say how code is changed so that one image can run what was published before and what comes after."""
    found = function_name(reference)
    if found is None:
        return "Put the code back that it was published with."
    following = found.at((found.version or 1) + 1)
    return (
        f"Put the code back that it was published with, and write the changed code beside it, as "
        f"`def {following.in_python}(scope)`: a definition names it `{FUNCTION}{found.module}:{following}`."
    )
