"""A gate that holds its first transaction open, records delivered and positions not, until a file appears.

HOLD names the folder: `holding` appears there when only positions and commit are missing, and `go` is waited for.
Otherwise `placet`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from placet.cli import main
from placet.streams.watchdog import Watchdog

folder = Path(os.environ["HOLD"])
armed = Watchdog.armed


@contextmanager
def held(self: Watchdog, call: str) -> Iterator[None]:
    if call == "send_offsets_to_transaction" and not (folder / "go").exists():
        (folder / "holding").touch()
        while not (folder / "go").exists():
            time.sleep(0.02)
    with armed(self, call):
        yield


Watchdog.armed = held  # type: ignore[method-assign]

main()
