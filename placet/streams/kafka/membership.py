"""Who we are in the consumer group, read from the metadata that librdkafka hands over as bytes."""

from __future__ import annotations

from struct import unpack_from
from typing import Final

__all__ = ["membership", "names_a_member"]

_METADATA_PREFIX: Final = b"CGMDv2:"


def membership(metadata: bytes) -> tuple[int, str]:
    """Parse librdkafka's group metadata: `CGMDv2:` int32 generation, group\\0, member\\0, flag [instance\\0].

    Returns:
        The member's epoch, -1 or 0 until the group has admitted it, and its id.
    """
    if not metadata.startswith(_METADATA_PREFIX):
        return -1, ""
    (generation,) = unpack_from("=i", metadata, len(_METADATA_PREFIX))
    _group, _, rest = metadata[len(_METADATA_PREFIX) + 4 :].partition(b"\0")
    return generation, rest.partition(b"\0")[0].decode(errors="replace")


def names_a_member(metadata: bytes) -> bool:
    """Tell whether a broker will check the metadata."""
    generation, member = membership(metadata)
    return generation >= 0 and bool(member)
