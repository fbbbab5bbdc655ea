"""A gate whose machine's clock is an hour ahead; otherwise `placet`."""

from __future__ import annotations

from placet.cli import main
from placet.streams import main as gate

run = gate.run
gate.run = lambda settings, definitions: run(settings, definitions, lambda: gate.clock_ms() + 3_600_000)  # type: ignore[assignment,misc]

main()
