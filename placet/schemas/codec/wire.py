"""Wire formats: what stands before the Avro body and says which schema wrote it.

    SingleObject   C3 01, then 8 bytes of fingerprint     needs no registry: schemas come from the control topic
    Confluent      00, then 4 bytes of a registry's id    what Connect, Flink and the Kafka UIs read

Sources: Avro 1.12 specification, "Single-object encoding"; Confluent's "Wire format" of the schema registry.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Protocol

from placet.schemas.avro.schema import fingerprint, parse_schema
from placet.schemas.errors import DecodeError

__all__ = [
    "SINGLE_OBJECT",
    "Confluent",
    "SingleObject",
    "Wire",
    "confluent_head",
    "head_size",
    "schema_id_of",
    "single_object_head",
]

_SIZES = {0xC3: 10, 0x00: 5}
_WORDS = {0xC3: "c3 01 and a fingerprint", 0x00: "00 and a schema's id"}


class Wire(Protocol):
    """How records are framed. `Codec` asks once for each schema, never once for each record."""

    def __hash__(self) -> int:
        """Be a key: by identity, unless it is said otherwise."""
        ...

    def head(self, role: str, schema: str) -> bytes:
        """Return the bytes that stand before each record of this schema, given as JSON text.

        Raises:
            SettingsError: the registry does not know the schema under the role's subject.
            PlacetError: the registry can't be asked.
        """
        ...

    def schema_of(self, role: str, head: bytes) -> str | None:
        """Return the schema, as JSON text, of a head that nothing local knows; None where nobody can be asked.

        Raises:
            UnknownSchema: whoever is to know does not, can't be reached, or has yet to be asked.
        """
        ...


class SingleObject:
    """Avro's registry-less framing. Schemas of other definitions are learned from the control topic."""

    def head(self, role: str, schema: str) -> bytes:  # noqa: ARG002  one head for all roles
        """Return C3 01 and the schema's fingerprint."""
        return single_object_head(schema)

    def schema_of(self, role: str, head: bytes) -> None:
        """Know nobody who could be asked."""


SINGLE_OBJECT: Wire = SingleObject()
"""The framing where nothing else is configured."""


class Confluent:
    """A schema registry's framing.

    Args:
        id_of: the id of a role's schema, given as JSON text, in the registry; asked once at start.
        text_of: the schema, as JSON text, of an id that wrote a record of a role; asked for unknown ids only.
    """

    def __init__(self, id_of: Callable[[str, str], int], text_of: Callable[[str, int], str]) -> None:
        self._id_of, self._text_of = id_of, text_of

    def head(self, role: str, schema: str) -> bytes:
        """Return 00 and the schema's id."""
        return confluent_head(self._id_of(role, schema))

    def schema_of(self, role: str, head: bytes) -> str | None:
        """Ask the registry; about its own framing only."""
        return self._text_of(role, int.from_bytes(head[1:], "big")) if head[0] == 0 else None


@lru_cache(maxsize=64)
def single_object_head(schema: str) -> bytes:
    """Return the ten bytes of single-object framing for a schema, given as JSON text.

    Raises:
        DecodeError: the schema is none of ours.
    """
    return b"\xc3\x01" + fingerprint(parse_schema(schema))


def confluent_head(schema_id: int) -> bytes:
    """Return the five bytes of a registry's framing for an id of 32 bits, unsigned."""
    return b"\x00" + schema_id.to_bytes(4, "big")


def schema_id_of(value: bytes | None) -> int | None:
    """Return the registry's id that a record names; None where it names a fingerprint, or nothing."""
    return int.from_bytes(value[1:5], "big") if value and value[0] == 0 else None


def head_size(value: bytes) -> int:
    """Return how many bytes stand before the body.

    Raises:
        DecodeError: the bytes begin with neither framing, or end within it.
    """
    size = _SIZES.get(value[0]) if value else None
    if size is None or (size == 10 and value[1:2] != b"\x01"):
        raise DecodeError(f"the value begins with {value[:2].hex() or 'nothing'}: neither c3 01 nor 00")
    if len(value) < size:
        raise DecodeError(f"the value has only {len(value)} of the {size} bytes that {_WORDS[value[0]]} take")
    return size
