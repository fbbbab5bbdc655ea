"""Folders of stores that can't be used: renamed, the last one of each task kept, for whoever wants to look at it.

Damage costs one restore. Met again soon after, it is not by chance, and rebuilding for ever would hide that: the task
stops by name.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from placet.streams.errors import FatalError, TaskStopped
from placet.streams.state.disk import Disk
from placet.streams.topology import TaskId

__all__ = ["Aside", "SetAside"]

_SOON_S: Final = 600.0
"""Longer than a damaged disk needs to show it again, shorter than what a healthy one takes between two faults."""


class Aside(NamedTuple):
    """A folder that was set aside, or removed, and why.

    Attributes:
        event: "store damaged", "store set aside" where it was sound, "store removed" or "store not removed".
    """

    event: str
    task_id: TaskId
    folder: Path
    why: str


class SetAside:
    """Sets folders aside and remembers for which tasks. One thread calls it; another one may `take`.

    Args:
        disk: where the folders are.
        monotonic_s: a clock that never goes back, in seconds.
    """

    def __init__(self, disk: Disk, monotonic_s: Callable[[], float]) -> None:
        self._disk = disk
        self._monotonic_s = monotonic_s
        self._damaged_at_s: dict[TaskId, float] = {}
        self._news: deque[Aside] = deque()

    def damaged(self, task_id: TaskId, folder: Path, why: str) -> None:
        """Set a damaged store's folder aside.

        Raises:
            TaskStopped: the task's last store was damaged too, not long ago.
            FatalError: the folder can't be moved.
        """
        now_s = self._monotonic_s()
        before_s = self._damaged_at_s.get(task_id)
        self._damaged_at_s[task_id] = now_s
        if before_s is not None and now_s - before_s < _SOON_S:
            raise TaskStopped(
                task_id,
                f"its store is damaged again {now_s - before_s:.0f} s after it was set aside and made anew: {why}. "
                "Nothing is lost, the log has it all. Look at the disk and the memory of this machine, then start "
                "again, here or elsewhere.",
            )
        self._move("store damaged", task_id, folder, why)

    def foreign(self, task_id: TaskId, folder: Path, why: str) -> None:
        """Set a folder aside that is sound but not this task's, or too old.

        Raises:
            FatalError: it can't be moved.
        """
        self._move("store set aside", task_id, folder, why)

    def take(self) -> list[Aside]:
        """Return what was set aside, or added, since the last call."""
        taken = []
        while self._news:
            taken.append(self._news.popleft())
        return taken

    def add(self, others: list[Aside]) -> None:
        """Add folders to those that are told of."""
        self._news.extend(others)

    def _move(self, event: str, task_id: TaskId, folder: Path, why: str) -> None:
        aside = folder.with_name(folder.name + ".aside")
        try:
            if self._disk.exists(folder):
                self._disk.remove(aside)
                self._disk.rename(folder, aside)
        except OSError as error:
            raise FatalError(
                f"{folder} can't be used ({why}) and can't be set aside as {aside}: {error}. Remove both or mend the "
                "disk, then start again; the log has it all. Meanwhile others take over."
            ) from error
        self._news.append(Aside(event, task_id, aside, why))
