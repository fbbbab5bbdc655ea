"""The folder of the local stores: tried before anything depends on it."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory

from placet.schemas.errors import SettingsError

__all__ = ["check_state_dir", "try_folder"]


def check_state_dir(folder: Path) -> None:
    """Try whether stores can be made in a folder, before the gate joins the group and is given partitions.

    Raises:
        SettingsError: they can't; folder and reason are in it.
    """
    try:
        try_folder(folder)
    except OSError as error:
        raise SettingsError(
            f"PLACET_STATE_DIR: no store can be made in {folder}: {error.strerror or error}. Give --state-dir a folder "
            "that this user may write to, on a disk with room, then start again."
        ) from error


def try_folder(folder: Path) -> None:
    """Make a folder, and in it for a moment what a store needs: a folder with a file that reaches the disk.

    Raises:
        OSError: one of that is refused.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".tried-", dir=folder) as tried, (Path(tried) / "file").open("wb") as file:
        file.write(b"placet")
        file.flush()
        os.fsync(file.fileno())
