"""Pauses between rounds that fail: longer each time, from the beginning of the round."""

from __future__ import annotations

from placet.streams.loop.back_off import BackOff


class World:
    """A clock that goes on by waiting only."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.waited: list[float] = []

    def wait(self, seconds: float) -> None:
        self.waited.append(round(seconds, 3))
        self.now_s += seconds


def rounds(back_off: BackOff, world: World, count: int, took_s: float = 0.0) -> list[float]:
    """The pauses of so many rounds that fail."""
    world.waited.clear()
    for _ in range(count):
        back_off.begin()
        world.now_s += took_s
        back_off.pause()
    return world.waited


def test_pauses_get_longer_up_to_two_seconds_and_short_again_after_a_success() -> None:
    world = World()
    back_off = BackOff(world.wait, lambda: world.now_s)
    assert rounds(back_off, world, 5) == [0.2, 0.5, 1.0, 2.0, 2.0]
    back_off.succeeded()
    assert rounds(back_off, world, 1) == [0.2]


def test_a_round_that_waited_for_a_broker_in_vain_has_paused_already() -> None:
    world = World()
    back_off = BackOff(world.wait, lambda: world.now_s)
    assert rounds(back_off, world, 5, took_s=1.5) == [0.0, 0.0, 0.0, 0.5, 0.5]
