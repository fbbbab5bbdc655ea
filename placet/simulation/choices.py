"""Choices of a simulated history: drawn by a seed, or read from a script that an earlier history has left."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from random import Random

__all__ = ["Choices"]


class Choices:
    """Numbers that decide what happens next, and a digest of all that was decided.

    Args:
        seed: of the numbers behind the script's end.
        script: the first numbers, such as those of a history that is to happen again.

    Attributes:
        script: every number so far: the same script leads to the same history, whatever the seed.
    """

    def __init__(self, seed: int, script: Sequence[int] = ()) -> None:
        self.script: list[int] = []
        self._given = list(script)
        self._random = Random(seed)  # noqa: S311 - a history, no secret
        self._digest = blake2b(digest_size=16)

    def pick(self, count: int) -> int:
        """Return a number from 0 to `count - 1`."""
        at = len(self.script)
        number = self._given[at] % count if at < len(self._given) else int(self._random.random() * count)
        self.script.append(number)
        return number

    def happens(self, once_in: int) -> bool:
        """Tell whether something happens that happens once in so many times."""
        return self.pick(once_in) == 1

    def note(self, event: str) -> None:
        """Put an event into the digest."""
        self._digest.update(event.encode())
        self._digest.update(b"\n")

    def digest(self) -> str:
        """Return the digest of all events so far, as hex: equal histories have equal ones."""
        return self._digest.hexdigest()
