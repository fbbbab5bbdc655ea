"""A frozen process stands when `freeze` returns: nothing of it answers any more."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from placet.devbroker.frozen_process import freeze, unfreeze

THREADS_THAT_COUNT = """
import sys, threading, time
def count(number):
    while True:
        sys.stdout.write(f"{number}\\n")
        sys.stdout.flush()
        time.sleep(0.0005)
for number in range(8):
    threading.Thread(target=count, args=(number,), daemon=True).start()
time.sleep(60)
"""


def test_nothing_is_said_between_a_freeze_and_its_end(tmp_path: Path) -> None:
    with (tmp_path / "said").open("wb") as said:
        process = subprocess.Popen([sys.executable, "-c", THREADS_THAT_COUNT], stdout=said)
    try:
        for _ in range(20):
            before = size_of(tmp_path)
            deadline_s = time.monotonic() + 20
            while size_of(tmp_path) == before:
                assert time.monotonic() < deadline_s, "it speaks"
            freeze(process.pid)
            frozen = size_of(tmp_path)
            time.sleep(0.005)
            assert size_of(tmp_path) == frozen
            unfreeze(process.pid)
    finally:
        process.kill()
        process.wait(10)


def size_of(folder: Path) -> int:
    return (folder / "said").stat().st_size


def test_a_process_that_is_gone_is_said_so() -> None:
    process = subprocess.Popen([sys.executable, "-c", "pass"])
    process.wait(20)
    with pytest.raises(ProcessLookupError):
        freeze(process.pid)
