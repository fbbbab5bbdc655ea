"""What the gates of simulated worlds decide by."""

from __future__ import annotations

from functools import reduce
from typing import Final

from placet.definitions import parse_definition
from placet.schemas.codec.codec import Codec
from placet.streams.topology import entity_topics

__all__ = [
    "APP",
    "CODEC",
    "CODECS",
    "DEFINITION",
    "ENTITIES",
    "NEWER",
    "NEWER_RULES",
    "PARTITIONS",
    "RULES",
    "TOPICS",
    "VERSIONS",
    "WITH_CODE",
]

APP: Final = "app"
PARTITIONS: Final = 2
RULES: Final = """
entity: order
version: 1
horizon: 10m
statuses: [open, held]
fields: {count: {type: int, default: 0}, missed: {type: int, default: 0}, until: timestamp | null, note: string | null}
signals:
  opened: {from: absent, to: open}
  counted:
    payload: {count: int}
    late: compensate
    transitions:
      - {from: [open, held], copy: count}
      - {from: [open, held], late: true, set: {missed: state.missed + 1}}
  noted: {payload: {note: string | null}, from: [open, held], guard: window.noted_by < 2, copy: note}
  seen: {payload: {count: int}, from: [open, held], dedup: newest, elsewhere: ignore, copy: count}
  greeted: {payload: {note: string | null}, from: [open, held], dedup: once}
  planned: {payload: {until: timestamp | null}, from: [open, held], copy: until}
  removed: {from: [open, held], to: absent}
proposals:
  hold: {from: open, to: held, fence: [status], max_state_age: 5m}
  release: {from: held, to: open}
  annotate:
    payload: {note: string | null}
    fence: none
    limits: [window.annotated < 1, window.mine < 12]
    from: any
    copy: note
timers:
  idle: {from: open, after: 2s, guard: state.count < 4 && window.idles < 2}
  lapsed: {from: held, after: 3s, to: open, set: {missed: state.missed + 1}}
  ends: {from: [open, held], at: state.until, set: {until: null, missed: state.missed + 1}}
windows:
  annotated: {count: annotate, within: 4s}
  noted_by: {count: noted, within: 5s, by: proposer}
  mine: {sum: counted.count, within: 4s, by: proposer}
  idles: {count: idle, within: 20s}
"""
_CHANGES: Final = {
    "version: 1": "version: 2",
    "[open, held]\nfields": "[open, held, parked]\nfields",
    "string | null}\nsignals": "string | null, seen_by: string | null}\nsignals",
    "- {from: [open, held], copy: count}": "- {from: [open, held, parked], copy: count}",
    "copy: note}\n  seen": "copy: note, set: {seen_by: proposer}}\n  seen",
    "proposals:\n": "  marked: {payload: {colour: string}, from: [open, held]}\nproposals:\n",
    "removed: {from: [open, held]": "removed: {from: [open, held, parked]",
    "hold: {from: open, to: held,": "hold: {from: open, to: parked,",
    "release: {from: held,": "release: {from: [held, parked],",
    "  idle: {from: open, after: 2s, guard: state.count < 4 && window.idles < 2}\n": "",
    "  idles: {count: idle, within: 20s}\n": "",
    "annotate, within: 4s": "annotate, within: 7s",
    "{sum: counted.count, within: 4s, by: proposer}": "{count: counted, within: 4s, by: proposer, start: empty}",
    "lapsed: {from: held, after: 3s": "lapsed: {from: [held, parked], after: 4s",
}
NEWER_RULES: Final = reduce(lambda text, change: text.replace(*change), _CHANGES.items(), RULES)
"""A version that goes with the one before: a field and a status more, which inputs of both versions lead to, and a
signal that nobody sends: so producers of this version write another schema. A timer is gone, and one is due later. A
window is gone, one reaches back further, one counts something else."""
NEWER: Final = parse_definition(NEWER_RULES)
DEFINITION: Final = parse_definition(RULES)
_WITHDRAWN: Final = RULES.replace("version: 1", "version: 3")
_AGAIN: Final = NEWER_RULES.replace("version: 2", "version: 4")
VERSIONS: Final = (
    (DEFINITION, RULES),
    (NEWER, NEWER_RULES),
    (parse_definition(_WITHDRAWN), _WITHDRAWN),
    (parse_definition(_AGAIN), _AGAIN),
)
"""Definitions that follow each other, with their texts: the third one withdraws the second, which has to be forced."""
WITH_CODE: Final = frozenset({2, 4})
"""Versions that an image of the others can't run, in a world in which these need code."""
CODEC: Final = Codec(DEFINITION)
CODECS: Final = {each.digest: Codec(each) for each, _ in VERSIONS}
TOPICS: Final = entity_topics(APP, DEFINITION.entity)
ENTITIES: Final = ("order-1", "order-2", "order-3", "order-5")
