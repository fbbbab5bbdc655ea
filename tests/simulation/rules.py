"""What the gates of simulated worlds decide by."""

from __future__ import annotations

from typing import Final

from placet.definitions import parse_definition
from placet.schemas.codec.codec import Codec
from placet.streams.topology import entity_topics

__all__ = ["APP", "CODEC", "DEFINITION", "ENTITIES", "PARTITIONS", "RULES", "TOPICS"]

APP: Final = "app"
PARTITIONS: Final = 2
RULES: Final = """
entity: order
version: 1
horizon: 10m
statuses: [open, held]
fields: {count: {type: int, default: 0}, note: string | null}
signals:
  opened: {from: absent, to: open}
  counted: {payload: {count: int}, from: [open, held], copy: count}
  noted: {payload: {note: string | null}, from: [open, held], copy: note}
  seen: {payload: {count: int}, from: [open, held], dedup: newest, copy: count}
  greeted: {payload: {note: string | null}, from: [open, held], dedup: once}
  removed: {from: [open, held], to: absent}
proposals:
  hold: {from: open, to: held, fence: [status]}
  release: {from: held, to: open}
  annotate: {payload: {note: string | null}, from: any, fence: none, copy: note}
"""
DEFINITION: Final = parse_definition(RULES)
CODEC: Final = Codec(DEFINITION)
TOPICS: Final = entity_topics(APP, DEFINITION.entity)
ENTITIES: Final = ("order-1", "order-2", "order-3", "order-5")
