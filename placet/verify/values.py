"""Two values side by side, in words: which field differs, and how. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields

from placet.schemas.decision import Decision
from placet.schemas.state import Change, EntityState

__all__ = ["differing", "shown"]

_SHOWN_MAX = 80
"""Characters of a value in a finding."""


def differing(recorded: Decision | Change, rerun: Decision | Change) -> str:
    """Say in which fields two records of one type differ; the bytes, where no field does."""
    found = [
        f"{path} is {shown(was)}, the re-run gives {shown(comes)}" for path, was, comes in _fields(recorded, rerun)
    ]
    return "; ".join(found) or "the values are the same, their bytes are not"


def _fields(
    recorded: Decision | Change | EntityState, rerun: object, path: str = ""
) -> Iterator[tuple[str, object, object]]:
    for field in fields(recorded):
        name = field.name
        was, comes = getattr(recorded, name), getattr(rerun, name)
        if isinstance(was, EntityState):
            yield from _fields(was, comes, f"{path}{name}.")
        elif was != comes:
            yield f"{path}{name}", was, comes


def shown(value: object) -> str:
    """Write a value, shortened."""
    text = value.hex() if isinstance(value, bytes) else f"{value!r}"
    return text if len(text) <= _SHOWN_MAX else f"{text[:_SHOWN_MAX]}…"
