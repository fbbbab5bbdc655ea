"""Two values side by side, in words: which field differs, and how. Pure."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

__all__ = ["differing", "shown"]

_SHOWN_MAX = 80
"""Characters of a value in a finding."""


def differing(recorded: msgspec.Struct, rerun: msgspec.Struct) -> str:
    """Say in which fields two structs of one type differ; the bytes, where no field does."""
    found = [
        f"{path} is {shown(was)}, the re-run gives {shown(comes)}" for path, was, comes in _fields(recorded, rerun)
    ]
    return "; ".join(found) or "the values are the same, their bytes are not"


def _fields(recorded: msgspec.Struct, rerun: msgspec.Struct, path: str = "") -> Iterator[tuple[str, object, object]]:
    for name in recorded.__struct_fields__:
        was, comes = getattr(recorded, name), getattr(rerun, name)
        if isinstance(was, msgspec.Struct) and type(was) is type(comes):
            yield from _fields(was, comes, f"{path}{name}.")
        elif was != comes:
            yield f"{path}{name}", was, comes


def shown(value: object) -> str:
    """Write a value, shortened."""
    text = value.hex() if isinstance(value, bytes) else f"{value!r}"
    return text if len(text) <= _SHOWN_MAX else f"{text[:_SHOWN_MAX]}…"
