"""A call that hangs ends the process; one that returns does not, nor one during which the process stood still."""

from __future__ import annotations

import subprocess
import sys
from itertools import pairwise

from placet.streams.kafka.watchdog import EXIT_HUNG, Deadline

PROGRAM = """
import threading
from placet.streams.kafka.watchdog import Watchdog
from placet.streams.host import LocalHost
watchdog = Watchdog(LocalHost(), 200)
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


def looks(patience: Deadline, *moments_s: float) -> list[str]:
    return [patience.look(moment_s) for moment_s in moments_s]


def every_second(begin_s: int, end_s: int) -> list[float]:
    return [float(moment_s) for moment_s in range(begin_s, end_s)]


def test_a_call_hangs_when_it_was_watched_for_longer_than_the_limit() -> None:
    patience = Deadline(20.0, now_s=0.0)
    patience.arm("flush", 0.5)
    assert looks(patience, *every_second(1, 21)) == [""] * 20
    assert patience.look(21.0) == "flush"


def test_a_freeze_is_not_counted_and_the_call_gets_its_time_anew() -> None:
    patience = Deadline(20.0, now_s=0.0)
    patience.arm("flush", 0.5)
    assert looks(patience, 1.0, 2.0, 65.0) == ["", "", ""], "63 s between two looks: the process stood still"
    assert looks(patience, *every_second(66, 86)) == [""] * 20
    assert patience.look(86.0) == "flush", "it hangs all the same: twenty seconds more, awake"


def test_freezes_that_come_again_and_again_are_survived() -> None:
    patience = Deadline(2.0, now_s=0.0)
    patience.arm("commit_transaction", 0.0)
    moments_s = [n * 0.5 + n // 3 * 10 for n in range(1, 40)]
    assert max(after - before for before, after in pairwise(moments_s)) > 10
    assert looks(patience, *moments_s) == [""] * len(moments_s)


def test_a_look_that_a_busy_machine_keeps_back_a_little_changes_nothing() -> None:
    patience = Deadline(20.0, now_s=0.0)
    patience.arm("flush", 0.0)
    late_s = [1.9 * n for n in range(1, 12)]
    assert looks(patience, *late_s) == [""] * 10 + ["flush"]


def test_a_call_that_returned_is_watched_no_longer() -> None:
    patience = Deadline(1.0, now_s=0.0)
    patience.arm("flush", 0.0)
    patience.disarm()
    assert looks(patience, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5) == [""] * 6
    patience.arm("produce", 1.6)
    assert looks(patience, 1.75, 2.0, 2.25, 2.5) == [""] * 4
    assert patience.look(2.75) == "produce"
