"""Restores by seed: whatever goes wrong, they end once all works again, with the stores of a restore in peace."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.simulation.restore_world import RestoreWorld

SEEDS = 60


@pytest.mark.parametrize("seed", range(SEEDS))
def test_every_task_is_restored_once_all_works_again(seed: int) -> None:
    world = RestoreWorld(seed)
    world.run()
    world.close()


def test_a_process_that_is_killed_at_any_turn_leaves_a_disk_that_the_next_one_goes_on_with() -> None:
    peace = RestoreWorld(0, faults=False)
    peace.run()
    turns = peace.scheduler.turns
    assert turns > 150
    for kill_at in range(1, turns, 7):
        world = RestoreWorld(kill_at, faults=False, kill_at=kill_at)
        world.run()
        world.close()


def test_the_same_script_leads_to_the_same_history() -> None:
    first = RestoreWorld(7)
    first.run()
    again = RestoreWorld(8, script=first.choices.script)
    again.run()
    assert again.happened == first.happened
    assert again.choices.digest() == first.choices.digest()


HISTORIES = """
from tests.simulation.restore_world import RestoreWorld
for seed in range(50):
    world = RestoreWorld(seed)
    world.run()
    print(seed, world.choices.digest(), world.scheduler.turns)
"""


def test_a_seed_leads_to_the_same_history_in_any_process() -> None:
    told = [
        subprocess.run(
            [sys.executable, "-c", HISTORIES], capture_output=True, text=True, check=True, timeout=120,
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "TZ": zone, "PYTHONPATH": "."},
        ).stdout
        for hash_seed, zone in (("1", "UTC"), ("2", "Asia/Tokyo"))
    ]  # fmt: skip
    assert len(told[0].splitlines()) == 50
    assert told[0] == told[1]
