"""How long facts waited: append times of what came in beside those of what came out. Pure."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple, TypeAlias

__all__ = ["Gap", "Wait", "Waits"]

Place: TypeAlias = tuple[str, int]
"""A topic and a partition."""


class Wait(NamedTuple):
    """How long a fact waited, in seconds; its partition, and when it came, in milliseconds since the epoch."""

    seconds: float
    partition: int = -1
    came_ms: int = 0


class Gap(NamedTuple):
    """The longest wait of a fact: for its decision, and for its copy."""

    gates: Wait
    copier: Wait


class Waits:
    """Append times by place, in milliseconds since the epoch; topics may be told of in any order.

    Args:
        facts: the topic that is copied.
        inputs: all topics of inputs, without transactions: their offsets have no gaps.
    """

    def __init__(self, facts: str, inputs: Iterable[str]) -> None:
        self._facts, self._inputs = facts, frozenset(inputs)
        self._came: dict[Place, array[int]] = {}
        self._decided: dict[Place, array[int]] = {}
        self._copied: dict[int, array[int]] = {}
        self.outcomes: Counter[str] = Counter()
        self.doubled: list[tuple[str, int, int]] = []
        """Where inputs lie that have more than one decision."""

    def came(self, topic: str, partition: int, offset: int, at_ms: int) -> None:
        """An input came in. What was told before is passed over."""
        times = self._came.setdefault((topic, partition), array("q"))
        if offset == len(times):
            times.append(at_ms)
        elif offset > len(times):
            raise ValueError(f"{topic}-{partition}: offset {offset} follows {len(times) - 1}")

    def decided(self, topic: str, partition: int, offset: int, at_ms: int, outcome: str) -> None:
        """An input was decided; it may not be known yet."""
        times = self._decided.setdefault((topic, partition), array("q"))
        if offset >= len(times):
            times.extend([0] * (offset + 1 - len(times)))
        if times[offset]:
            self.doubled.append((topic, partition, offset))
        else:
            times[offset] = at_ms
            self.outcomes[outcome] += 1

    def copied(self, partition: int, at_ms: int) -> None:
        """The next fact of this partition was copied."""
        self._copied.setdefault(partition, array("q")).append(at_ms)

    @property
    def inputs(self) -> int:
        """How many inputs came in."""
        return sum(map(len, self._came.values()))

    @property
    def facts(self) -> int:
        """How many facts came in."""
        return sum(len(times) for (topic, _), times in self._came.items() if topic == self._facts)

    @property
    def copies(self) -> int:
        """How many facts were copied."""
        return sum(map(len, self._copied.values()))

    @property
    def decisions(self) -> int:
        """How many decisions there are, those that should not be included."""
        return self.outcomes.total() + len(self.doubled)

    def undecided(self) -> list[tuple[str, int, int]]:
        """Where inputs lie that have no decision."""
        return [
            (topic, partition, offset)
            for (topic, partition), times in self._came.items()
            for offset in range(len(times))
            if not self._at(self._decided.get((topic, partition)), offset)
        ]

    def unasked(self) -> int:
        """How many decisions there are on what did not come in."""
        return sum(
            sum(1 for at_ms in times[len(self._came.get(place, ())) :] if at_ms)
            for place, times in self._decided.items()
        )

    def longest(self, since_ms: float, until_ms: float, now_ms: float) -> Gap:
        """Return how long a fact waited at most, of those that came from `since_ms` on and before `until_ms`.

        What did not come out yet waits until now. The copies of a partition are in the order of its facts.
        """
        gates = copier = Wait(0.0)
        for (topic, partition), times in self._came.items():
            if topic != self._facts:
                continue
            decided, copied = self._decided.get((topic, partition)), self._copied.get(partition)
            for offset, at_ms in enumerate(times):
                if since_ms <= at_ms < until_ms:
                    gates = max(gates, Wait(((self._at(decided, offset) or now_ms) - at_ms) / 1000, partition, at_ms))
                    copier = max(copier, Wait(((self._at(copied, offset) or now_ms) - at_ms) / 1000, partition, at_ms))
        return Gap(gates, copier)

    @staticmethod
    def _at(times: array[int] | None, offset: int) -> int:
        return times[offset] if times is not None and offset < len(times) else 0
