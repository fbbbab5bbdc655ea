"""Every single crash point of small worlds: at each turn of a history, in turn, the gate whose turn it is dies."""

from __future__ import annotations

from functools import cache

from placet.simulation.scheduler import StandsStill
from tests.simulation.histories import History, digest_of
from tests.simulation.invariants import broken_invariants
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


def run_crash_point(schedule: int, turn: int) -> History:
    """Run a small world in which, at one turn, the process whose turn it is dies. Its supervisor starts it again."""
    world = World(schedule, _SMALL, trouble=False)
    world.die_at(turn)
    wrong: list[str] = []
    try:
        world.run()
        wrong += broken_invariants(world)
    except StandsStill as error:
        wrong += [*world.bugs, *world.stopped, f"stands still: {error}"]
    number = schedule * 1_000_000 + turn
    history = History(_KIND, number, (), wrong, world.counts.get("committed", 0), world.faults, digest_of(world))
    world.scheduler.close()
    return history
