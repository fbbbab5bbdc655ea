"""The folder of the local stores: tried before anything depends on it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from placet.schemas.errors import SettingsError
from placet.streams.state.disk import Disk

__all__ = ["LOOKS_PER_RETENTION", "check_state_dir"]

LOOKS_PER_RETENTION: Final = 8
"""How often a gate looks for what is to be gone: what it finds a look late is still gone within the retention."""


def check_state_dir(disk: Disk, folder: Path) -> None:
    """Try whether stores can be made in a folder, before the gate joins the group and is given partitions.

    Raises:
        SettingsError: they can't; folder and reason are in it.
    """
    try:
        disk.try_folder(folder)
    except OSError as error:
        raise SettingsError(
            f"PLACET_STATE_DIR: no store can be made in {folder}: {error.strerror or error}. Give --state-dir a folder "
            "that this user may write to, on a disk with room, then start again."
        ) from error
