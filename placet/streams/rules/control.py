"""The topic of rules: definitions under their digest, published before the first decision under them.

Verify, restore, clients and `explain` read the rules here, and writers' schemas of other versions become known by it.
Two gates may start at once with different rules: what stands first in the log counts, the other one refuses to start.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from placet.processors.ladder import LADDER
from placet.schemas.codec.contracts import contracts
from placet.schemas.codec.control import Published, decode_control, encode_control
from placet.schemas.definition.model import Definition
from placet.schemas.definition.sources import changed_code, keep_both
from placet.schemas.errors import DecodeError, SettingsError
from placet.streams.errors import LogUnreachable
from placet.streams.kafka.log_reader import LogReader
from placet.streams.records import ConsumerRecord, TopicPartition
from placet.streams.rules.rulebook import Rulebook
from placet.streams.runtime import Runtime

__all__ = ["Control", "publication", "record_of", "refuse_unfit"]

_FOLLOW_EVERY_S: Final = 1.0
_READ_TIMEOUT_S: Final = 30.0


class Control:
    """Reads the control topic to its end at start, publishes what is missing, and follows it from then on.

    Attributes:
        rulebook: what was read.

    Args:
        runtime: a clock.
        reader: an own reader of the topic.
        topic: its name; it has one partition.
        end_offset: asks for the topic's end.
    """

    def __init__(self, runtime: Runtime, reader: LogReader, topic: str, end_offset: Callable[[], int]) -> None:
        self.rulebook = Rulebook(topic)
        self._monotonic_s = runtime.monotonic_s
        self._reader = reader
        self._partition = TopicPartition(topic, 0)
        self._end_offset = end_offset
        self._follow_at_s = 0.0

    @property
    def position(self) -> int:
        """How far the topic was read."""
        return self.rulebook.position

    def read(self) -> None:
        """Read the topic to its end."""
        self._read_to_end()

    def publish(self, definitions: Sequence[Definition], produce: Callable[[bytes, bytes], None], now_ms: int) -> bool:
        """Publish the definitions that do not stand on the topic, on top of what the rulebook holds: what was checked.

        Args:
            definitions: checked against the rulebook as it is.
            produce: writes key and value to the topic, durably.
            now_ms: goes into the records.

        Raises:
            SettingsError: one is too large.

        Returns:
            Whether all of them count. Where another version came in between, they don't, and have to be checked again.
        """
        for definition in definitions:
            if (definition.entity, definition.digest) not in self.rulebook.published:
                key = f"definition/{definition.entity}/{definition.digest.hex()}".encode()
                produce(key, record_of(publication(definition, now_ms, self.rulebook.base_of(definition.entity))))
        self._read_to_end()
        return all((definition.entity, definition.digest) in self.rulebook.published for definition in definitions)

    def stay(self) -> None:
        """Stay on the topic; `follow` takes what arrives."""
        self._reader.follow(self._partition, self.position)

    def follow(self) -> list[tuple[Published, str]]:
        """Take what is new, about once a second: it costs a call into librdkafka, never a wait.

        Returns:
            The published versions that the codecs can't read, each with the reason: they are passed over.
        """
        passed_over: list[tuple[Published, str]] = []
        if self._monotonic_s() < self._follow_at_s:
            return passed_over
        self._follow_at_s = self._monotonic_s() + _FOLLOW_EVERY_S
        try:
            records, end = self._reader.take_new()
            for record in records:
                passed_over += self.rulebook.take([record], record.offset + 1)
            if end is not None:
                self.rulebook.take([], end)  # behind the last record there may be markers
        except LogUnreachable:
            self.stay()  # what was polled with it is polled again; a client does not read on by itself after each error
        return passed_over

    def hurry(self) -> None:
        """Have the next `follow` look at once."""
        self._follow_at_s = 0.0

    def close(self) -> None:
        """Give the reader back."""
        self._reader.close()

    def _read_to_end(self) -> None:
        deadline_s = self._monotonic_s() + _READ_TIMEOUT_S

        def take(records: list[ConsumerRecord], position: int) -> bool:
            self.rulebook.take(records, position)
            return self._monotonic_s() < deadline_s

        if not self._reader.read(self._partition, self.position, self._end_offset(), take):
            raise LogUnreachable(
                f"{self._partition.topic} could not be read to its end in {_READ_TIMEOUT_S:g} s: its leader does not "
                "answer, or a transaction on it has not ended."
            )


def refuse_unfit(definition: Definition, published: Iterable[Published]) -> None:
    """Refuse a definition that the log speaks against.

    Raises:
        SettingsError: the same version with another digest stood there first, or a higher version, or a later ladder.
    """
    own = [entry for entry in published if entry.entity == definition.entity]
    newest = max((entry.version for entry in own), default=0)
    ladder = max((entry.ladder for entry in own), default=LADDER)
    if ladder > LADDER:
        raise SettingsError(
            f"definition {definition.entity}: a release with decision ladder {ladder} published version {newest}, this "
            f"one runs ladder {LADDER}, and would decide otherwise. Run that release, or a later one."
        )
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
                    f"{_changed_functions(entry, definition)}"
                )
            return


def _changed_functions(entry: Published, definition: Definition) -> str:
    """Name the functions whose code is another one: the file of the definition may be the same."""
    sources = json.loads(entry.document).get("sources", {})
    return "".join(
        f" Or, where only the code of {found.reference} changed (digest {found.was}, yours {found.comes}): "
        f"{keep_both(found.reference)}"
        for found in changed_code(sources, definition.sources)
    )


def record_of(entry: Published) -> bytes:
    """Return the bytes of a publication.

    Raises:
        SettingsError: nobody could read it: it is too large.
    """
    value = encode_control(entry)
    try:
        decode_control(value)
    except DecodeError as error:
        raise SettingsError(f"definition {entry.entity} version {entry.version} can't be published: {error}") from error
    return value


def publication(definition: Definition, now_ms: int, base: bytes) -> Published:
    """Return the record that publishes a definition, on top of the version of this digest."""
    return Published(
        definition.entity,
        definition.version,
        definition.digest,
        LADDER,
        definition.document,
        {role: json.dumps(schema) for role, schema in contracts(definition)._asdict().items()},
        now_ms,
        base,
    )
