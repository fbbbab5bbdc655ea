"""A gate with a bug: deciding raises in partition 0. Otherwise `placet`."""

from __future__ import annotations

from typing import Any

from placet.cli import main
from placet.streams.loop.task import Task

process = Task.process


def broken(self: Task, *arguments: Any) -> Any:
    if self.task_id.partition == 0:
        raise ZeroDivisionError("a bug in partition 0")
    return process(self, *arguments)


Task.process = broken  # type: ignore[method-assign]

main()
