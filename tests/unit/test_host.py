"""The real host: a flag that a signal sets, an inbox, futures."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import Future
from typing import Any

from placet.streams.host import LocalHost

A_SIGNAL_AT_ANY_INSTRUCTION = """
import random, signal
from placet.streams.host import LocalHost

host, dice = LocalHost(), random.Random(1)
signal.signal(signal.SIGALRM, lambda *_: flag.set())
for _ in range(3000):
    flag = host.flag()
    signal.setitimer(signal.ITIMER_REAL, dice.uniform(1e-6, 1e-4))
    while not flag.wait(0.00001):
        pass
print("ended")
"""


def test_a_signal_sets_a_flag_whatever_its_thread_is_doing_with_it() -> None:
    """With `threading.Event` this stands still within a second."""
    done = subprocess.run(
        [sys.executable, "-c", A_SIGNAL_AT_ANY_INSTRUCTION], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == "ended\n", done.stderr


def test_a_flag_that_nobody_sets_is_waited_for_no_longer_than_said() -> None:
    host, flag = LocalHost(), LocalHost().flag()
    began_s = host.monotonic_s()
    assert not flag.wait(0.02)
    assert host.monotonic_s() - began_s >= 0.02
    assert not flag.is_set()


def test_an_inbox_gives_the_oldest_item_and_none_when_there_is_none() -> None:
    inbox = LocalHost().inbox()
    assert inbox.get(0.0) is None
    inbox.put("first")
    inbox.put("second")
    assert [inbox.get(), inbox.get(0.0), inbox.get(0.0)] == ["first", "second", None]


def test_a_thread_that_puts_wakes_one_that_waits() -> None:
    host = LocalHost()
    inbox, answer = host.inbox(), Future[Any]()
    spawned = host.spawn("waits", lambda: answer.set_result(inbox.get()))
    assert not host.wait([answer], 0.01)
    inbox.put("now")
    assert host.wait([answer], 10)
    assert answer.result() == "now"
    spawned.join(10)
    assert not spawned.is_alive()
