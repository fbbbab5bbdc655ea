"""A gate that holds its first transaction open, records delivered and positions not, until a file appears.

HOLD names the folder: `holding` appears there when only positions and commit are missing, and `go` is waited for.
HOLD_BEFORE=commit holds it when the positions are sent too. Otherwise `placet`.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from placet.cli import main
from placet.streams.kafka.transactional_producer import Transaction

folder = Path(os.environ["HOLD"])
step = {"positions": "_send_positions", "commit": "_end"}[os.environ.get("HOLD_BEFORE", "positions")]
go_on = getattr(Transaction, step)


def held(transaction: Transaction, *arguments: Any) -> None:
    if not (folder / "go").exists():
        (folder / "holding").touch()
        while not (folder / "go").exists():
            time.sleep(0.02)
    go_on(transaction, *arguments)


setattr(Transaction, step, held)

main()
