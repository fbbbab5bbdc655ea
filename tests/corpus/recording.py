"""A recorded log: the bytes of each topic as they lay there, and what stood beside them, as lines of JSON."""

from __future__ import annotations

import gzip
import json
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from placet.streams.records import ConsumerRecord, TopicPartition
from tests.memory_log import MemoryLog

__all__ = ["Recording"]


@dataclass
class Recording:
    """One app's log with one entity type.

    Attributes:
        app: whose it is.
        entity: the entity type.
        partitions: how many each topic of the entity type has.
        ladder: the one that decided.
        now_ms: when it was recorded, by the gates' clock.
        lag_ms: compaction lag of changelog and ledger.
        topic_ids: of the entity type's topics, by name.
        positions: the group's: topic, partition, position.
        states: the digest of what a restore gave then, by partition.
        records: of each partition, in order.
        ends: of each partition; markers lie behind the last record.
    """

    app: str
    entity: str
    partitions: int
    ladder: int
    now_ms: int
    lag_ms: int
    topic_ids: Mapping[str, str]
    positions: list[tuple[str, int, int]]
    states: list[str] = field(default_factory=list)
    records: dict[TopicPartition, list[ConsumerRecord]] = field(default_factory=dict)
    ends: dict[TopicPartition, int] = field(default_factory=dict)

    def log(self) -> MemoryLog:
        """Return the log, to be read by verify and restores."""
        log = MemoryLog()
        for partition, records in self.records.items():
            log.put(partition, list(records), self.ends[partition])
        log.commit({TopicPartition(topic, number): position for topic, number, position in self.positions})
        return log

    def write(self, path: Path) -> None:
        """Write the file; it must not exist."""
        head = {name: value for name, value in asdict(self).items() if name not in ("records", "ends")}
        lines = [json.dumps(head)]
        for partition, records in self.records.items():
            lines.append(json.dumps([*partition, self.ends[partition]]))
            lines += [json.dumps(_written(record)) for record in records]
        with path.open("xb") as file, gzip.GzipFile(fileobj=file, mode="wb", filename="", mtime=0) as packed:
            packed.write("\n".join(lines).encode())

    @classmethod
    def read(cls, path: Path) -> Recording:
        """Read a file."""
        head, *lines = (json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines())
        made = cls(**head)
        for line in lines:
            if isinstance(line[0], str):
                partition = TopicPartition(line[0], line[1])
                made.ends[partition], made.records[partition] = line[2], []
            else:
                made.records[partition].append(_read(partition, line))
        return made


def _written(record: ConsumerRecord) -> list[Any]:
    headers = [[name, _text(content)] for name, content in record.headers or ()]
    return [record.offset, record.timestamp, _text(record.key), _text(record.value), headers]


def _read(partition: TopicPartition, line: list[Any]) -> ConsumerRecord:
    offset, timestamp, key, value, headers = line
    kept = [(name, _bytes(content)) for name, content in headers]
    return ConsumerRecord(*partition, offset, timestamp, _bytes(key), _bytes(value), kept)


def _text(data: bytes | None) -> str | None:
    return None if data is None else b64encode(data).decode()


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else b64decode(text)
