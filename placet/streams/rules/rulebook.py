"""The rulebook: what the control topic holds, and whose codecs learn from it. Pure: records in, definitions out.

    control records ── Rulebook ─┬─ published   in the log's order; what stands first under a digest counts
                                 ├─ in_force    which versions of an entity type count, and which are passed over
                                 └─ teach       codecs read what every version wrote, now and from now on

Gates, clients and verify have one each. They differ in who reads the topic, in when, and in what they do with what is
passed over.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Final

from placet.schemas.codec.codec import Codec
from placet.schemas.codec.control import NO_BASE, Published, decode_control
from placet.schemas.errors import DecodeError
from placet.schemas.in_force import InForce, in_force
from placet.streams.records import ConsumerRecord

__all__ = ["EVERYTHING", "STATES", "Rulebook", "teach"]

STATES: Final = frozenset({"change"})
EVERYTHING: Final = frozenset({"signal", "proposal", "change"})


class Rulebook:
    """The definitions on the control topic, and how far it was read.

    Attributes:
        topic: its name; it has one partition.
        position: the next record to read.
        published: what counts, by entity type and digest, in the log's order.
        overtaken: what does not: another version came into force after it was checked.

    Args:
        topic: see there.
        explained: see `teach`.
    """

    def __init__(self, topic: str, explained: Collection[str] = STATES) -> None:
        self.topic = topic
        self.position = 0
        self.published: dict[tuple[str, bytes], Published] = {}
        self.overtaken: list[Published] = []
        self._beyond: dict[str, str] = {}
        self._heads: dict[str, Published] = {}
        self._offsets: dict[tuple[str, bytes], int] = {}
        self._explained = explained
        self._codecs: dict[str, list[Codec]] = {}

    def take(self, records: Iterable[ConsumerRecord], position: int) -> list[tuple[Published, str]]:
        """Take in records, and teach what is new to the codecs.

        Args:
            records: of the topic, in its order. What a later release wrote is left out, and so is what is known.
            position: how far the topic was read with them.

        Returns:
            What a codec can't read of them; see `teach`.
        """
        found = []
        for record in records:
            try:
                entry = decode_control(record.value or b"")
            except DecodeError as error:
                self._note_unreadable(record, str(error))
                continue
            key = (entry.entity, entry.digest)
            if key in self.published:
                continue
            if entry.base and entry.base != self.base_of(entry.entity):
                if entry.base != NO_BASE and not self._is_known(entry.entity, entry.base):
                    self._beyond[entry.entity] = f"version {entry.version} follows one that this release can't read"
                self.overtaken.append(entry)
                continue
            self._beyond.pop(entry.entity, None)
            self.published[key], self._offsets[key] = entry, record.offset
            head = self._heads.get(entry.entity)
            if head is None or head.version < entry.version:
                self._heads[entry.entity] = entry
            found.append(entry)
        passed_over = self._taught(found)
        self.position = max(self.position, position)  # the last thing: a restore in another thread waits for it
        return passed_over

    def teach(self, codecs: Mapping[str, Codec]) -> list[tuple[Published, str]]:
        """Make codecs read what any definition of their entity type wrote: those that are known, and those to come.

        Args:
            codecs: by entity type.

        Returns:
            What they can't read; see the function `teach`.
        """
        for entity, codec in codecs.items():
            if codec not in self._codecs.setdefault(entity, []):
                self._codecs[entity].append(codec)  # one that a restore still reads with goes on to learn
        return [
            (entry, why)
            for entry in self.published.values()
            if entry.entity in codecs and (why := teach(codecs[entry.entity], entry, explained=self._explained))
        ]

    def entities(self) -> list[str]:
        """Return the entity types that are known here."""
        return sorted({entity for entity, _ in self.published})

    def of(self, entity: str) -> list[Published]:
        """Return the definitions of an entity type, in the log's order."""
        return [entry for entry in self.published.values() if entry.entity == entity]

    def in_force(self, entity: str) -> InForce:
        """Tell the versions of an entity type that count from those that are passed over."""
        found = in_force(entity, self.published.values())
        return found._replace(beyond=found.beyond or self._beyond.get(entity, ""))

    def base_of(self, entity: str) -> bytes:
        """Return what a publication names as its base now: the same for every release, whether it can use it or not."""
        head = self._heads.get(entity)
        return head.digest if head else NO_BASE

    def offset_of(self, entry: Published) -> int:
        """Return where a definition stands on the topic."""
        return self._offsets[entry.entity, entry.digest]

    def _note_unreadable(self, record: ConsumerRecord, why: str) -> None:
        """A definition in a form of a later release may be in force: until one comes that is checked against ours."""
        kind, _, rest = (record.key or b"").partition(b"/")
        if kind == b"definition" and record.value is not None:
            self._beyond[rest.partition(b"/")[0].decode("utf-8", "replace")] = f"a record of a later release: {why}"

    def _is_known(self, entity: str, digest: bytes) -> bool:
        known = (*self.of(entity), *(entry for entry in self.overtaken if entry.entity == entity))
        return any(entry.digest == digest for entry in known)

    def _taught(self, published: Iterable[Published]) -> list[tuple[Published, str]]:
        return [
            (entry, why)
            for entry in published
            for codec in self._codecs.get(entry.entity, ())
            if (why := teach(codec, entry, explained=self._explained))
        ]


def teach(codec: Codec, entry: Published, *, explained: Collection[str] = STATES) -> str:
    """Make a codec read what a version wrote, each schema by itself: that one can't be read says nothing of the others.

    Args:
        codec: of the version's entity type.
        entry: the version.
        explained: roles of schemas. Whoever meets a record of one that can't be read is told why; records of other
            roles stay unknown. A gate has states explained alone: verify must find the same reason for each input.

    Returns:
        Why it can't read a schema; "" where it can read them all.
    """
    unread = []
    for role, schema in entry.schemas.items():
        try:
            codec.learn(schema)
        except DecodeError as error:
            unread.append(str(error))
            if role in explained:
                why = f"version {entry.version} of `{entry.entity}` wrote it, which can't be read: {error}"
                codec.refuse(schema, why)
    return unread[0] if unread else ""
