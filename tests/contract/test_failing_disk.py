"""EIO is damage to what a call of the database meets, and no damage where the folder itself can't be locked."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.contract.failing_disk import calls_of, told
from tests.contract.machines import SimulatedMachine, filled

ROOT = Path(__file__).parents[2]
EIO = os.strerror(errno.EIO)


def on_the_real(folder: Path, kind: str) -> dict[str, str]:
    """Return what the calls of a real store say where one kind of system calls fails."""
    command = [sys.executable, "-m", "tests.contract.failing_disk", str(folder), kind]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT, timeout=60)
    return dict(line.split("=", 1) for line in done.stdout.splitlines())


@pytest.mark.parametrize(
    ("kind", "damaged"),
    [
        ("pread64", {"get", "scan", "fill", "open"}),
        ("write", {"write", "clean", "fill", "open"}),
        ("openat", {"clean", "fill"}),
    ],
)
def test_where_system_calls_fail_the_real_database_says_damage(tmp_path: Path, kind: str, damaged: set[str]) -> None:
    found = on_the_real(tmp_path, kind)
    assert {name for name, said in found.items() if said.startswith("StoreDamaged")} == damaged
    assert all(EIO in said for said in found.values() if said), found


def test_a_lock_that_can_not_be_opened_is_no_damage(tmp_path: Path) -> None:
    assert on_the_real(tmp_path, "openat")["open"].startswith("FatalError: ")


def test_where_the_whole_disk_fails_the_simulated_one_says_the_same() -> None:
    machine = SimulatedMachine()
    filled(machine)
    store = machine.open()
    machine.disk.refuse(errno.EIO)
    found = told(calls_of(store))
    store.close()
    assert all(said.startswith("StoreDamaged: ") and EIO in said for said in found.values()), found
    assert told({"open": machine.open})["open"].startswith("FatalError: "), "its lock can't be opened"
