"""The topic of rules: definitions under their digest, published before the first decision under them.

Verify, restore, clients and `explain` read the rules here, and writers' schemas of other versions become known by it.
Two gates may start at once with different rules: what stands first in the log counts, the other one refuses to start.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Final

from placet.schemas.codec.contracts import contracts
from placet.schemas.codec.control import Published, decode_control, encode_control
from placet.schemas.definition.model import Definition
from placet.schemas.errors import DecodeError, SettingsError
from placet.streams.entity_type import EntityType
from placet.streams.errors import LogUnreachable
from placet.streams.kafka.log_reader import LogReader
from placet.streams.records import ConsumerRecord, TopicPartition
from placet.streams.runtime import Runtime

__all__ = ["Control", "refuse_unfit"]

_FOLLOW_EVERY_S: Final = 1.0
_READ_TIMEOUT_S: Final = 30.0


class Control:
    """Reads the control topic to its end at start, publishes what is missing, and follows it from then on.

    Args:
        runtime: a clock.
        reader: an own reader of the topic.
        topic: its name; it has one partition.
        end_offset: asks for the topic's end.
    """

    def __init__(self, runtime: Runtime, reader: LogReader, topic: str, end_offset: Callable[[], int]) -> None:
        self.position = 0
        self._monotonic_s = runtime.monotonic_s
        self.published: dict[tuple[str, bytes], Published] = {}
        self._reader = reader
        self._partition = TopicPartition(topic, 0)
        self._end_offset = end_offset
        self._entity_types: dict[str, EntityType] = {}
        self._follow_at_s = 0.0

    @property
    def topic(self) -> str:
        """The topic's name."""
        return self._partition.topic

    def read(self) -> None:
        """Read the topic to its end."""
        self._read_to_end()

    def learn(self, entity_types: dict[str, EntityType]) -> list[tuple[Published, str]]:
        """Tell the codecs every schema that is known.

        Returns:
            The published versions that can't be read with ours, each with the reason: they are passed over.
        """
        self._entity_types = entity_types
        passed_over = []
        for published in self.published.values():
            try:
                self._teach(published)
            except DecodeError as error:
                passed_over.append((published, str(error)))
        return passed_over

    def publish(self, definitions: Sequence[Definition], produce: Callable[[bytes, bytes], None], now_ms: int) -> None:
        """Make sure that every definition stands on the topic.

        Args:
            definitions: what this gate is about to run.
            produce: writes key and value to the topic, durably.
            now_ms: goes into the record.

        Raises:
            SettingsError: the log has the same version with other rules, or a higher version.
        """
        self._read_to_end()
        for definition in definitions:
            refuse_unfit(definition, self.published.values())
        for definition in definitions:
            if (definition.entity, definition.digest) not in self.published:
                key = f"definition/{definition.entity}/{definition.digest.hex()}".encode()
                produce(key, encode_control(_published(definition, now_ms)))
        self._read_to_end()
        for definition in definitions:
            refuse_unfit(definition, self.published.values())

    def teach(self, entity_types: dict[str, EntityType]) -> list[tuple[Published, str]]:
        """Tell the codecs every schema that is known, and from now on every new one. Returns as `learn` does."""
        passed_over = self.learn(entity_types)
        self._reader.follow(self._partition, self.position)
        return passed_over

    def follow(self) -> list[tuple[Published, str]]:
        """Take what is new, about once a second: it costs a call into librdkafka, never a wait. Returns as `learn`."""
        passed_over: list[tuple[Published, str]] = []
        if self._monotonic_s() < self._follow_at_s:
            return passed_over
        self._follow_at_s = self._monotonic_s() + _FOLLOW_EVERY_S
        with suppress(LogUnreachable):  # the next look will do
            for record in self._reader.take_new():
                self._take([record], record.offset + 1)
                published = self._decoded(record)
                if published is not None:
                    try:
                        self._teach(published)
                    except DecodeError as error:  # of a version that does not fit ours: its inputs are refused
                        passed_over.append((published, str(error)))
        return passed_over

    def close(self) -> None:
        """Give the reader back."""
        self._reader.close()

    def _read_to_end(self) -> None:
        deadline_s = self._monotonic_s() + _READ_TIMEOUT_S

        def take(records: list[ConsumerRecord], position: int) -> bool:
            return self._take(records, position) and self._monotonic_s() < deadline_s

        if not self._reader.read(self._partition, self.position, self._end_offset(), take):
            raise LogUnreachable(
                f"{self._partition.topic} could not be read to its end in {_READ_TIMEOUT_S:g} s: its leader does not "
                "answer, or a transaction on it has not ended."
            )

    def _take(self, records: list[ConsumerRecord], position: int) -> bool:
        for record in records:
            published = self._decoded(record)
            if published is not None:
                self.published.setdefault((published.entity, published.digest), published)
        self.position = max(self.position, position)
        return True

    @staticmethod
    def _decoded(record: ConsumerRecord) -> Published | None:
        """Return the definition in a record; what a later version of Placet wrote is passed over."""
        if record.value is None:
            return None
        try:
            return decode_control(record.value)
        except DecodeError:
            return None

    def _teach(self, published: Published) -> None:
        kind = self._entity_types.get(published.entity)
        if kind is None:
            return
        unread: list[DecodeError] = []
        for role, schema in published.schemas.items():  # each by itself: that one can't be read says nothing of others
            try:
                kind.codec.learn(schema)
            except DecodeError as error:
                unread.append(error)
                if role == "change":  # of states alone: inputs are refused for the reason that verify finds again
                    why = f"version {published.version} of `{published.entity}` wrote it, which can't be read: {error}"
                    kind.codec.refuse(schema, why)
        if unread:
            raise unread[0]


def refuse_unfit(definition: Definition, published: Iterable[Published]) -> None:
    """Refuse a definition that the log speaks against.

    Raises:
        SettingsError: the same version with another digest stood there first, or a higher version is there.
    """
    own = [entry for entry in published if entry.entity == definition.entity]
    newest = max((entry.version for entry in own), default=0)
    if definition.version < newest:
        raise SettingsError(
            f"definition {definition.entity} version {definition.version}: version {newest} is published already, and "
            "a version is never lowered. Give these rules a higher version, or run that one."
        )
    for entry in own:
        if entry.version == definition.version:
            if entry.digest != definition.digest:
                raise SettingsError(
                    f"definition {definition.entity} version {definition.version}: the same version is published with "
                    f"other rules (digest {entry.digest.hex()}, yours {definition.digest.hex()}). Count the version up."
                )
            return


def _published(definition: Definition, now_ms: int) -> Published:
    return Published(
        definition.entity,
        definition.version,
        definition.digest,
        definition.document,
        {role: json.dumps(schema) for role, schema in contracts(definition)._asdict().items()},
        now_ms,
    )
