"""Which of the published definitions count: those that read what was written before them.

A gate checks that before it publishes. Earlier releases published first, so that a topic may hold versions that nothing
can run beside the states that exist: everybody passes over those, by the same rule.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

from placet.schemas.codec.contracts import Schema
from placet.schemas.codec.control import Published
from placet.schemas.codec.wire import SINGLE_OBJECT
from placet.schemas.codec.writer_schemas import RECORD_BYTES_MAX, WriterSchemas
from placet.schemas.definition.model import Definition, parse_definition
from placet.schemas.errors import DecodeError, DefinitionError

__all__ = ["InForce", "Usable", "can_not_read", "in_force"]


class Usable(NamedTuple):
    """A published version, parsed."""

    published: Published
    definition: Definition
    change: Schema


class InForce(NamedTuple):
    """What the topic says of one entity type.

    Attributes:
        usable: in the order of the log; the one of the highest version is in force.
        passed_over: version and reason of the others.
        beyond: why the version in force may be one that this release can't use; "" where it is `newest`.
    """

    usable: tuple[Usable, ...]
    passed_over: tuple[tuple[Published, str], ...]
    beyond: str = ""

    @property
    def newest(self) -> Usable | None:
        """The version in force."""
        return max(self.usable, key=lambda found: found.published.version, default=None)


@lru_cache(maxsize=64)
def _parsed(document: str) -> Definition:
    """Parse a published document once: each look at the topic's versions begins with all of them."""
    return parse_definition(document, "")


def in_force(entity: str, published: Iterable[Published]) -> InForce:
    """Tell the versions of an entity type that count from the others.

    Args:
        entity: the entity type.
        published: what stands on the control topic, in its order.
    """
    usable: list[Usable] = []
    passed_over: list[tuple[Published, str]] = []
    unknown: list[tuple[Published, str]] = []
    for entry in published:
        if entry.entity != entity:
            continue
        try:
            found = Usable(entry, _parsed(entry.document), json.loads(entry.schemas["change"]))
            why = can_not_read(found.change, usable)
        except (DefinitionError, DecodeError, KeyError, ValueError) as error:
            passed_over.append((entry, f"this release of Placet can't use it: {error}"))
            if entry.base:  # who published it could use it; earlier releases published first, and looked afterwards
                unknown.append(passed_over[-1])
            continue
        if why:
            passed_over.append((entry, why))
        else:
            usable.append(found)
    newest = max((found.published.version for found in usable), default=0)
    beyond = (f"version {entry.version}: {why}" for entry, why in unknown if entry.version > newest)
    return InForce(tuple(usable), tuple(passed_over), next(beyond, ""))


def can_not_read(change: Schema, earlier: Sequence[Usable]) -> str:
    """Say why a changelog's schema does not read what earlier versions wrote; "" where it reads all of them."""
    reader = WriterSchemas("change", change, SINGLE_OBJECT, RECORD_BYTES_MAX)
    for other in earlier:
        try:
            reader.learn(other.change)
        except DecodeError as error:
            return f"it can't read what version {other.published.version} wrote: {error}"
    return ""
