"""A gate that asks every two seconds whether its topics are still the same; otherwise `placet`."""

from __future__ import annotations

from placet.cli import main
from placet.streams.loop import identity

identity._EVERY_S = 2.0  # type: ignore[misc]
identity._AGAIN_S = 1.0  # type: ignore[misc]
identity._DOUBTED_S = 3.0  # type: ignore[misc]

main()
