"""Rung 1 after decoding: is the input at the right place, and does it say what its contract asks for?

A key in the wrong partition would have two owners, so it is refused. librdkafka's default partitioner put 753 of 1000
keys elsewhere than Java's; everything here uses Java's murmur2 (`murmur2_random`).
"""

from __future__ import annotations

from struct import unpack_from
from typing import Final, final

from placet.processors.refusal import Refusal
from placet.schemas.decision import Reason
from placet.schemas.messages import Message

__all__ = ["ENTITY_ID_BYTES_MAX", "Place", "address_error", "broken_envelope", "murmur2", "partition_of", "written_key"]

ENTITY_ID_BYTES_MAX: Final = 512
"""Longest entity id, and longest input id, in bytes of UTF-8."""

_M: Final = 0x5BD1E995
_MASK: Final = 0xFFFFFFFF


@final
class Place:
    """The partition of a task, and how many partitions each of its topics has."""

    def __init__(self, partition: int, partitions: int) -> None:
        self.partition = partition
        self.partitions = partitions


def murmur2(data: bytes) -> int:
    """Hash bytes as Kafka's Java client does (org.apache.kafka.common.utils.Utils.murmur2), as unsigned 32 bits."""
    length = len(data)
    h = 0x9747B28C ^ length
    whole = length & ~3
    for word in unpack_from(f"<{whole >> 2}I", data):
        k = word * _M & _MASK
        h = (h * _M ^ (k ^ k >> 24) * _M) & _MASK
    tail = data[whole:]
    if tail:
        h = (h ^ int.from_bytes(tail, "little")) * _M & _MASK
    h = (h ^ h >> 13) * _M & _MASK
    return h ^ h >> 15


def partition_of(key: bytes, partitions: int) -> int:
    """Return the partition that a key belongs to."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions


def written_key(key: bytes | None) -> bytes | None:
    """Return the key under which an input is answered: a decision must fit into a record whatever came in."""
    return key if key is None or len(key) <= ENTITY_ID_BYTES_MAX else key[:ENTITY_ID_BYTES_MAX]


def address_error(key: bytes | None, entity_id: str, place: Place) -> Refusal | None:
    """Return why a record is not where its entity is, or None."""
    home = place.partition if key is None else partition_of(key, place.partitions)
    if home != place.partition:
        detail = f"the key belongs to partition {home}, the record is in {place.partition}"
        return Refusal(Reason.WRONG_PARTITION, detail)
    if key != entity_id.encode():
        return Refusal(Reason.KEY_MISMATCH, f"the record's key is {key!r:.200}, its entity_id {entity_id!r:.200}")
    return None


def broken_envelope(message: Message) -> str:
    """Return what is wrong with a decoded input's ids, or "". Sizes are bounded: ids are stored for the horizon."""
    size = len(message.entity_id.encode())
    if not 0 < size <= ENTITY_ID_BYTES_MAX:
        return f"entity_id has {size} bytes; 1 to {ENTITY_ID_BYTES_MAX} are allowed"
    if not 0 < len(message.input_id) <= ENTITY_ID_BYTES_MAX // 4:
        return f"the input's id has {len(message.input_id)} characters; 1 to 128 are allowed"
    return ""
