"""What a gate takes from its disk: stores in folders of their own, and folders that are put out of the way."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from placet.streams.state.store import StateStore

__all__ = ["Disk"]


class Disk(Protocol):
    """A disk, or a simulation's. Calls on folders raise `OSError` where the disk refuses."""

    def open_store(self, folder: Path, /) -> StateStore:
        """Open a store, and make it where there is none.

        Raises:
            StoreDamaged: there is something in the folder that can't be opened.
            StoreLocked: somebody has it open.
            FatalError: the folder can't be made or written, whatever is in it.
        """
        ...

    def exists(self, path: Path, /) -> bool:
        """Tell whether something is there."""
        ...

    def rename(self, path: Path, to: Path, /) -> None:
        """Give a folder another name."""
        ...

    def remove(self, path: Path, /) -> None:
        """Remove a folder and all in it, a file, a link, or nothing."""
        ...

    def stores(self, folder: Path, /) -> list[tuple[Path, int]]:
        """Return the folders of stores two levels below a folder, and when each was written last, in ms."""
        ...

    def remove_unused(self, path: Path, /) -> bool:
        """Remove a store's folder, unless somebody has it open; return whether it was removed."""
        ...

    def try_folder(self, folder: Path, /) -> None:
        """Make a folder, and in it for a moment what a store needs: a folder with a file that reaches the disk."""
        ...
