"""The doctor's look at the published rules: what everybody passes over, and what a start would be refused for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, TypeAlias

from placet.schemas.codec.contracts import contracts
from placet.schemas.codec.control import Published
from placet.schemas.definition.diff import differences
from placet.schemas.definition.model import Definition
from placet.schemas.in_force import InForce, can_not_read, in_force
from placet.streams.rules.publication import does_not_compile

__all__ = ["ReadRules", "Remark", "remarks"]

ReadRules: TypeAlias = Callable[[], Sequence[Published]]
"""Reads what stands on the control topic, in its order."""


class Remark(NamedTuple):
    """What was found: `status` is ok, warn or fail; what to do."""

    status: str
    found: str
    todo: str = ""


def remarks(definitions: Sequence[Definition], published: Sequence[Published]) -> Iterator[Remark]:
    """Say what is the matter with what stands on the control topic, and with what is about to be published.

    Args:
        definitions: those that are looked at, by entity type.
        published: what stands on the topic, in its order.
    """
    found = [remark for definition in definitions for remark in _of(definition, published)]
    yield from found or [Remark("ok", f"{len(published)} on the control topic, all of use")]


def _of(definition: Definition, published: Sequence[Published]) -> Iterator[Remark]:
    known = in_force(definition.entity, published)
    for entry, why in known.passed_over:
        found = f"{entry.entity} version {entry.version} ({entry.digest.hex()[:8]}) is passed over: {why}"
        todo = "Nothing to do where no gate runs it. The rules that are meant go under a higher version than this."
        yield Remark("warn", found, todo)
    if all(entry.digest != definition.digest for entry in published):
        yield from _unpublished(definition, known)


def _unpublished(definition: Definition, known: InForce) -> Iterator[Remark]:
    head = f"{definition.entity} version {definition.version}"
    if known.newest is not None and known.newest.published.version > definition.version:
        now = f"version {known.newest.published.version} is in force"
        todo = "A gate that starts with this file runs that one. `placet definitions withdraw` goes back."
        yield Remark("warn", f"{head} will not be published: {now}", todo)
        return
    why = can_not_read(contracts(definition).change, known.usable)
    wrong = does_not_compile(definition, known)
    if wrong:
        yield Remark("fail", f"{head} will not be published: {wrong}", "See `placet definitions validate`.")
    elif why:
        yield Remark("fail", f"{head} will not be published: {why}", "Give a field of another type another name.")
    elif known.newest is not None:
        found = [item for item in differences(known.newest.definition, definition) if not item.compatible]
        if found:
            wrong = "; ".join(f"{item.path} {item.change}" for item in found)
            version = known.newest.published.version
            todo = "See `placet definitions diff`: mend it, or start once with --force."
            yield Remark("fail", f"{head} is incompatible with version {version}, which is in force: {wrong}", todo)
