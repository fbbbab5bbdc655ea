"""A gate that stops itself (SIGSTOP) inside a call that the watchdog watches over, once. Otherwise `placet`.

FREEZE_IN names the call, FREEZE_ONCE a file that is made right before.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from placet.cli import main
from placet.streams.kafka.watchdog import Watchdog

once = Path(os.environ["FREEZE_ONCE"])
watched = Watchdog.armed


@contextmanager
def freezing(watchdog: Watchdog, call: str) -> Iterator[None]:
    with watched(watchdog, call):
        if call == os.environ["FREEZE_IN"] and not once.exists():
            once.touch()
            os.kill(os.getpid(), signal.SIGSTOP)
        yield


Watchdog.armed = freezing  # type: ignore[method-assign]

main()
