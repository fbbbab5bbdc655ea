"""Choices of a simulated history: drawn by a seed, or read from a script that an earlier history has left."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from random import Random
from typing import Final

__all__ = ["CALM", "Choices"]


CALM: Final = -1
"""In a script: the choice by which the least happens."""


class Choices:
    """Numbers that decide what happens next, and a digest of all that was decided.

    Args:
        seed: of the numbers behind the script's end; None: nothing goes wrong any more from there on.
        script: the first numbers, such as those of a history that is to happen again.
        keeps_events: whether what `note` is given is kept, to compare two histories.

    Attributes:
        script: every number so far: the same script leads to the same history, whatever the seed.
        events: what was noted, where that is kept.
    """

    def __init__(self, seed: int | None, script: Sequence[int] = (), *, keeps_events: bool = False) -> None:
        self.script: list[int] = []
        self.events: list[str] | None = [] if keeps_events else None
        self._given = list(script)
        self._random = Random(seed) if seed is not None else None  # noqa: S311 - a history, no secret
        self._digest = blake2b(digest_size=16)

    def pick(self, count: int) -> int:
        """Return a number from 0 to `count - 1`. The last one is the one by which the least happens."""
        at = len(self.script)
        if at < len(self._given):
            number = self._given[at] % count  # CALM too: the last one
        else:
            number = int(self._random.random() * count) if self._random is not None else count - 1
        self.script.append(number)
        return number

    def happens(self, once_in: int) -> bool:
        """Tell whether something happens that happens once in so many times."""
        return self.pick(once_in) == 0

    def note(self, event: str) -> None:
        """Put an event into the digest."""
        self._digest.update(event.encode())
        self._digest.update(b"\n")
        if self.events is not None:
            self.events.append(f"{event} (after {len(self.script)} choices)")

    def digest(self) -> str:
        """Return the digest of all events and choices so far, as hex: equal histories have equal ones."""
        whole = self._digest.copy()
        whole.update(repr(self.script).encode())
        return whole.hexdigest()
