"""Every single crash point of small worlds: at each turn of a history, in turn, the gate whose turn it is dies."""

from __future__ import annotations

from functools import cache

from tests.simulation.histories import History, collected_afterwards, outcome_of
from tests.simulation.world import Scale, World

__all__ = ["crash_points", "run_crash_point"]

_SMALL = Scale(inputs=5)
_KIND = "crash point"


@cache
def crash_points(schedule: int) -> int:
    """Return how many turns a small world without trouble takes, under one schedule."""
    world = World(schedule, _SMALL, trouble=False)
    world.run()
    return world.scheduler.turns


@collected_afterwards()
def run_crash_point(schedule: int, turn: int) -> History:
    """Run a small world in which, at one turn, the process whose turn it is dies. Its supervisor starts it again."""
    world = World(schedule, _SMALL, trouble=False)
    world.die_at(turn)
    return outcome_of(world, _KIND, schedule * 1_000_000 + turn)
