"""The header of an entity's tombstone: `version/epoch/sequence`, as text."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from placet.schemas.errors import DecodeError

__all__ = ["TOMBSTONE_HEADER", "Tombstone", "tombstone_of"]

TOMBSTONE_HEADER: Final = "placet-tombstone"


class Tombstone(NamedTuple):
    """What a tombstone tells: the entity's last version, and the transaction that forgot it."""

    version: int
    task_epoch: int
    sequence: int

    def header(self) -> tuple[str, bytes]:
        """Return the header that says so."""
        return TOMBSTONE_HEADER, "/".join(map(str, self)).encode()


def tombstone_of(headers: Iterable[tuple[str, bytes | None]] | None) -> Tombstone:
    """Return what a tombstone's headers tell.

    Raises:
        DecodeError: it is none that a gate wrote.
    """
    content = next((content for name, content in headers or () if name == TOMBSTONE_HEADER), None)
    try:
        version, task_epoch, sequence = map(int, (content or b"").split(b"/"))
    except ValueError:
        raise DecodeError(f"a tombstone that no transaction wrote: {TOMBSTONE_HEADER} is {content!r}") from None
    return Tombstone(version, task_epoch, sequence)
