"""Choices of a simulated history: drawn by a seed, or read from a script that an earlier history has left."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from random import Random
from typing import Final

__all__ = ["CALM", "CalmChoices", "Choices"]


CALM: Final = -1
"""In a script: the choice by which the least happens."""


class Choices:
    """Numbers that decide what happens next, and a digest of all that was decided.

    Args:
        seed: of the numbers behind the script's end; None: nothing goes wrong any more from there on.
        script: the first numbers, such as those of a history that is to happen again.

    Attributes:
        script: every number so far: the same script leads to the same history, whatever the seed.
        events: what was noted.
    """

    def __init__(self, seed: int | None, script: Sequence[int] = ()) -> None:
        self.script: list[int] = []
        self.events: list[str] = []
        self._given = list(script)
        self._draw = Random(seed).random if seed is not None else None  # noqa: S311 - a history, no secret

    def pick(self, count: int) -> int:
        """Return a number from 0 to `count - 1`. The last one is the one by which the least happens."""
        script, draw = self.script, self._draw
        at = len(script)
        if at < len(self._given):
            number = self._given[at] % count  # CALM too: the last one
        else:
            number = int(draw() * count) if draw is not None else count - 1
        script.append(number)
        return number

    def happens(self, once_in: int) -> bool:
        """Tell whether something happens that happens once in so many times."""
        return self.pick(once_in) == 0

    def note(self, event: str) -> None:
        """Keep an event for the digest."""
        self.events.append(event)

    def digest(self) -> str:
        """Return the digest of all events and choices so far, as hex: equal histories have equal ones."""
        return blake2b(repr((self.events, self.script)).encode(), digest_size=16).hexdigest()


class CalmChoices(Choices):
    """Choices of a history in which nothing goes wrong, and of which nobody wants to know: nothing is kept."""

    def __init__(self) -> None:
        super().__init__(None)

    def pick(self, count: int) -> int:
        """Return the number by which the least happens."""
        return count - 1

    def note(self, event: str) -> None:
        """Forget it."""
