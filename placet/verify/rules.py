"""The rules that were in force, by digest: definitions as the control topic holds them.

A decision names its definition and how far the control topic had been read, so that a schema which became known only
later does not make an `UNKNOWN_SCHEMA` look wrong.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from contextlib import suppress

from placet.processors.machine import Machine, compile_machine
from placet.processors.rules import Rules
from placet.schemas.codec.codec import Codec
from placet.schemas.codec.wire import SINGLE_OBJECT, Wire
from placet.schemas.definition.model import parse_definition
from placet.schemas.errors import DefinitionError, SettingsError
from placet.streams.rules.rulebook import Rulebook, teach

__all__ = ["PastRules"]

_CONFLUENT, _SINGLE_OBJECT = 0x00, 0xC3


class PastRules:
    """All definitions of one entity type, compiled when they are first asked for.

    Args:
        entity: the entity type.
        rulebook: what the control topic holds; of this entity type one definition at least.
        wire: the framing of a gate that runs with a registry; None where none is configured.
        record_bytes_max: the gates' limit of one input, in bytes.
    """

    def __init__(self, entity: str, rulebook: Rulebook, wire: Wire | None, record_bytes_max: int) -> None:
        self.entity = entity
        self._published = rulebook.of(entity)
        self._offsets = [rulebook.offset_of(entry) for entry in self._published]
        self._by_digest = {entry.digest: entry for entry in self._published}
        known = rulebook.in_force(entity)
        if known.newest is None:
            raise SettingsError(
                "; ".join(f"{entity} version {entry.version}: {why}" for entry, why in known.passed_over)
            )
        self._newest = known.newest.published.digest
        self._horizons = dict(self._parsed_horizons())
        self._wire = wire
        self._record_bytes_max = record_bytes_max
        self._machines: dict[bytes, Machine] = {}
        self._codecs: dict[tuple[bytes, int, int], Codec] = {}
        self._in_force: dict[tuple[bytes, int, int], Rules] = {}

    def in_force(self, digest: bytes, control_position: int, framing: int) -> Rules | None:
        """Return a definition as a gate had it.

        Args:
            digest: names the definition; None comes back where the control topic does not hold it.
            control_position: schemas published from there on were not known yet.
            framing: first byte of what the gate wrote: with a registry (0) or without.

        Raises:
            SettingsError: this machine can't run the definition, such as for other code behind a `python:` function.
        """
        key = (digest, control_position, framing)
        found = self._in_force.get(key)
        if found is None and digest in self._by_digest:
            found = self._in_force[key] = Rules(
                self._machine(digest),
                self._codec(digest, bisect_left(self._offsets, control_position), framing),
                control_position,
            )
        return found

    def reader(self, digest: bytes = b"") -> Codec:
        """Return a codec that reads all that any gate wrote, as a definition has it; the newest one by default."""
        if digest not in self._horizons:
            digest = self._newest
        return self._codec(digest, len(self._published), _CONFLUENT if self._wire else _SINGLE_OBJECT)

    def horizon_ms(self, digest: bytes = b"") -> int:
        """Return a definition's horizon in ms; the longest of all where it is not known."""
        return self._horizons.get(digest) or max(self._horizons.values())

    def _parsed_horizons(self) -> Iterator[tuple[bytes, int]]:
        for digest, entry in self._by_digest.items():
            with suppress(DefinitionError):  # of a later release: nothing that it decided can be run again here
                yield digest, parse_definition(entry.document).horizon_ms

    def _machine(self, digest: bytes) -> Machine:
        if digest not in self._machines:
            try:
                self._machines[digest] = compile_machine(parse_definition(self._by_digest[digest].document))
            except DefinitionError as error:
                version = self._by_digest[digest].version
                raise SettingsError(f"{self.entity} version {version} can't be run again here: {error}") from error
        return self._machines[digest]

    def _codec(self, digest: bytes, known: int, framing: int) -> Codec:
        found = self._codecs.get((digest, known, framing))
        if found is not None:
            return found
        if framing == _CONFLUENT and self._wire is None:
            raise SettingsError(f"{self.entity} is written with a schema registry: set PLACET_REGISTRY__URL.")
        wire = self._wire if framing == _CONFLUENT and self._wire else SINGLE_OBJECT
        codec = Codec(parse_definition(self._by_digest[digest].document), wire, self._record_bytes_max)
        for entry in self._published[:known]:
            teach(codec, entry)  # what the gate could not learn then is not learned now
        self._codecs[digest, known, framing] = codec
        return codec
