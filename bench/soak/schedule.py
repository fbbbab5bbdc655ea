"""Which fault comes when: an order by seed, round after round, as long as the time lasts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import Any, NamedTuple

__all__ = ["Kind", "in_turn"]


class Kind(NamedTuple):
    """A kind of fault.

    Attributes:
        name: as the report has it.
        takes_s: how long it is expected to take, in seconds, without the calm after it.
        bring: brings it about, and sees that it ends.
        ends_every_gate: no gate lives through it.
    """

    name: str
    takes_s: float
    bring: Callable[[Any, Random], None]
    ends_every_gate: bool = False


def in_turn(kinds: Sequence[Kind], seed: int, calm_s: float, remaining_s: Callable[[], float]) -> Iterator[Kind]:
    """Give one kind after the other, until none fits into the time that is left.

    Where the time is enough for a round, what ends every gate comes first. It never comes again: how much memory a gate
    takes in the long run is seen of those that live on.

    Args:
        kinds: each comes once in a round, in another order each time.
        seed: the same order again.
        calm_s: follows each of them, in seconds.
        remaining_s: asked before each.
    """
    random = Random(seed)
    order = random.sample(kinds, len(kinds))
    if sum(kind.takes_s + calm_s for kind in kinds) <= remaining_s():
        order.sort(key=lambda kind: not kind.ends_every_gate)
    found = True
    while found:
        found = False
        for kind in order:
            if kind.takes_s + calm_s <= remaining_s():
                found = True
                yield kind
        others = [kind for kind in kinds if not kind.ends_every_gate]
        order = random.sample(others, len(others))
