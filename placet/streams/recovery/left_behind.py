"""Stores that no task uses any more, and folders that were set aside: removed once nothing was written for long.

What is deleted from the topics stays in them: a store that nobody has open can't clean itself.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from placet.streams.recovery.set_aside import Aside
from placet.streams.state.disk import Disk
from placet.streams.state.state_dir import LOOKS_PER_RETENTION
from placet.streams.topology import TaskId

__all__ = ["LeftBehind"]


class LeftBehind:
    """Removes what lies unused in the folder of an app.

    Args:
        disk: where the folder is.
        now_ms: the wall clock, which is also that of the files' times.
        folder: of the app; its stores are `<entity>/<partition>`, those set aside `<entity>/<partition>.aside`.
        retention_ms: within this time after its last write a folder is gone, if a gate runs here.
    """

    def __init__(self, disk: Disk, now_ms: Callable[[], int], folder: Path, retention_ms: int) -> None:
        self._disk = disk
        self._now_ms = now_ms
        self._folder = folder
        self._every_ms = retention_ms // LOOKS_PER_RETENTION
        self._unused_ms = retention_ms - self._every_ms
        self._looked_at_ms: int | None = None

    def remove(self) -> list[Aside]:
        """Look, if that is due, and return what was removed. What can't be removed is tried again the next time."""
        now_ms = self._now_ms()
        if self._looked_at_ms is not None and 0 <= now_ms - self._looked_at_ms < self._every_ms:
            return []
        self._looked_at_ms = now_ms
        removed: list[Aside] = []
        try:
            found = self._disk.stores(self._folder)
        except OSError:  # looked at again the next time
            return removed
        for folder, written_ms in found:
            number, unused_ms = folder.stem, now_ms - written_ms
            if unused_ms < self._unused_ms or not number.isdecimal():
                continue
            event, why = "store removed", f"nothing was written to it for {unused_ms // 3_600_000} h"
            try:
                if not self._disk.remove_unused(folder):
                    continue
            except OSError as error:
                event, why = "store not removed", str(error)
            removed.append(Aside(event, TaskId(folder.parent.name, int(number)), folder, why))
        return removed
