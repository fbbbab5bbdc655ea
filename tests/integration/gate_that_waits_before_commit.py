"""A gate that holds its first transaction open, records in hand, until a file appears; otherwise `placet`.

HOLD names the folder: `holding` appears there when the transaction is full, and `go` is waited for.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from placet.cli import main
from placet.streams.producer import Transaction

folder = Path(os.environ["HOLD"])
commit = Transaction.commit


def held_commit(self: Transaction, *arguments: Any) -> None:
    if not (folder / "go").exists():
        (folder / "holding").touch()
        while not (folder / "go").exists():
            time.sleep(0.02)
    commit(self, *arguments)


Transaction.commit = held_commit  # type: ignore[method-assign]

main()
