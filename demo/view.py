"""What a terminal shows while the demo runs: what has happened, a bar, and a small table that moves."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from demo.tally import Tally
from placet.schemas.decision import Outcome
from placet.schemas.messages import Kind

PLAIN_EACH_S = 5.0
COLOURS = {Outcome.ACCEPTED: "green", Outcome.DUPLICATE: "yellow", Outcome.REFUSED: "red", Outcome.PENDING: "blue"}


class View(AbstractContextManager["View"]):
    """Shows how a run stands: live on a terminal, a line each five seconds elsewhere.

    Args:
        console: where.
        flights: how many will be fed.
        tally: what was decided.
        people: tells how gates and advisors stand, as lines.
    """

    def __init__(self, console: Console, flights: int, tally: Tally, people: Callable[[], list[str]]) -> None:
        self._console, self._tally, self._people = console, tally, people
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._bars = Progress(*columns, console=console)
        self._flights = self._bars.add_task("flights", total=flights)
        self._live = Live(console=console, refresh_per_second=4, get_renderable=self._picture, transient=True)
        self._fed, self._sent, self._plain_at_s = 0, 0, time.monotonic() + PLAIN_EACH_S

    def __enter__(self) -> View:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def say(self, what: str) -> None:
        """Say something that stays on the screen."""
        self._console.print(what)

    def update(self, flights: int, sent: int) -> None:
        """Take in how many flights and inputs were sent."""
        self._fed, self._sent = flights, sent
        self._bars.update(self._flights, completed=flights)
        if not self._console.is_terminal and time.monotonic() >= self._plain_at_s:
            self._plain_at_s += PLAIN_EACH_S
            self._console.print(
                "  " + "; ".join([f"{flights:,} flights", f"{self._tally.decided:,} decided", *self._people()]),
                soft_wrap=True,
            )

    def _picture(self) -> Group:
        table = Table(box=None, padding=(0, 2), show_header=False)
        table.add_column(no_wrap=True)
        table.add_column(justify="right")
        table.add_column(no_wrap=True)
        people = self._people()
        rows = self._tally.counts.most_common(9)
        for place in range(max(len(rows), len(people))):
            what = count = ""
            if place < len(rows):
                (kind, outcome, reason), number = rows[place]
                noun = "facts" if kind is Kind.SIGNAL else "proposals"
                word = f"{outcome.name.lower()}{f', {reason.name}' if reason else ''}"
                what, count = f"[{COLOURS[outcome]}]{noun} {word}[/]", f"{number:,}"
            table.add_row(what, count, people[place] if place < len(people) else "")
        return Group(self._bars, table)
