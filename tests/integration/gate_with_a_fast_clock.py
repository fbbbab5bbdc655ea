"""A gate whose machine's clock is an hour ahead; otherwise `placet`."""

from __future__ import annotations

from placet.cli import main
from placet.streams import main as gate
from placet.streams.host import LocalHost


class FastHost(LocalHost):
    def now_ms(self) -> int:
        return super().now_ms() + 3_600_000


run = gate.run
gate.run = lambda settings, definitions: run(settings, definitions, FastHost())  # type: ignore[assignment,misc]

main()
