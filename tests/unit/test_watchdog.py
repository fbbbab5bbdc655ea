"""A call that hangs ends the process; one that returns does not."""

from __future__ import annotations

import subprocess
import sys

from placet.streams.watchdog import EXIT_HUNG

PROGRAM = """
import threading
from placet.streams.watchdog import Watchdog
watchdog = Watchdog(200)
with watchdog.armed("a short call"):
    pass
threading.Event().wait(0.5)
print("alive", flush=True)
with watchdog.armed("a call that hangs"):
    threading.Event().wait(60)
print("not reached", flush=True)
"""


def test_a_hung_call_ends_the_process_with_its_own_code_and_says_which() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == EXIT_HUNG
    assert done.stdout == "alive\n"
    assert "a call that hangs hung" in done.stderr
    assert "Thread" in done.stderr, "the stacks are shown"
