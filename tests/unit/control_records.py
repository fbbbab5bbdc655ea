"""Records of a control topic, for tests: definitions as a gate publishes them, and what a rulebook makes of them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from placet.processors.ladder import LADDER
from placet.schemas.codec.contracts import contracts
from placet.schemas.codec.control import Published, encode_control
from placet.schemas.definition.model import Definition
from placet.streams.records import ConsumerRecord
from placet.streams.rules.rulebook import STATES, Rulebook


def published(definition: Definition, **parts: Any) -> Published:
    schemas = {role: json.dumps(schema) for role, schema in contracts(definition)._asdict().items()}
    values = {
        "entity": definition.entity, "version": definition.version, "digest": definition.digest,
        "ladder": LADDER,
        "document": definition.document, "schemas": schemas, "published_at": 0, "base": b"",
    }  # fmt: skip
    return Published(*{**values, **parts}.values())


def control_record(entry: Published, offset: int) -> ConsumerRecord:
    return ConsumerRecord("control", 0, offset, 0, entry.digest, encode_control(entry), None)


def rulebook_of(entries: Iterable[tuple[int, Published]], explained: Iterable[str] = STATES) -> Rulebook:
    """Return what is known once these offsets of the topic are read."""
    rulebook = Rulebook("control", frozenset(explained))
    for offset, entry in entries:
        rulebook.take([control_record(entry, offset)], offset + 1)
    return rulebook
