"""Stops a process for a while, as a frozen container does: it hears and says nothing, its connections stay open."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Final

__all__ = ["freeze", "unfreeze"]

_WITHIN_S: Final = 10.0


def freeze(pid: int) -> None:
    """Stop a process, and return when all of its threads stand.

    SIGSTOP only asks for it: on a busy machine a thread of a JVM may answer one more request in the meantime.

    Raises:
        ProcessLookupError: there is no such process.
        TimeoutError: it does not stop, such as one that waits for its disk.
    """
    os.kill(pid, signal.SIGSTOP)
    deadline_s = time.monotonic() + _WITHIN_S
    while not _stands(pid):
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"process {pid} did not stop in {_WITHIN_S:g} s")
        time.sleep(0.001)


def unfreeze(pid: int) -> None:
    """Let it go on."""
    os.kill(pid, signal.SIGCONT)


def _stands(pid: int) -> bool:
    """Tell whether all threads are stopped, by /proc or, where there is none (macOS), by ps."""
    if Path("/proc/self/task").exists():
        return all(_state(thread) in "TZX" for thread in Path(f"/proc/{pid}/task").iterdir())
    done = subprocess.run(["ps", "-o", "state=", "-p", str(pid)], capture_output=True, text=True, check=False)  # noqa: S603, S607
    return done.stdout.strip().startswith("T")


def _state(thread: Path) -> str:
    """One letter (proc(5)), behind the name in parentheses; "X" of a thread that has just ended."""
    try:
        return (thread / "stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "X"
