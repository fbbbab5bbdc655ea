"""The rooms of the package, drawn from the import contracts: what is above may import what is below."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, Final

__all__ = ["drawing"]

ROOT: Final = Path(__file__).parents[1]
ROOMS: Final = ("placet.streams", "placet.processors", "placet.schemas")
"""Packages whose rooms have layers of their own."""


def drawing() -> str:
    """Return a drawing, one line for each layer; `|` stands between rooms that know nothing of each other."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = {
        container: contract["layers"] for contract in contracts for container in contract.get("containers", ["placet"])
        if contract["type"] == "layers"
    }  # fmt: skip
    lines = []
    for layer in layers["placet"]:
        rooms = layers.get(layer) if layer in ROOMS else None
        name = named(layer.replace("placet.", ""))
        first, *others = map(named, rooms or [""])
        lines += [f"{name:<12}{first}", *(f"{'':<12}{room}" for room in others)]
    return "\n".join(["```text", *(line.rstrip() for line in lines), "```"])


def named(layer: Any) -> str:
    """Optional rooms stand in parentheses in a contract."""
    return str(layer).replace("(", "").replace(")", "")
