"""Tables for people: no name is ever broken. Where a table is too wide for the terminal, each row becomes a block."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from textwrap import wrap
from typing import Final

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table

__all__ = ["PIPE_WIDTH", "console_for_people", "print_rows"]

PIPE_WIDTH: Final = 160
"""Columns of a table that is not printed to a terminal."""
_AROUND: Final = 2
_BETWEEN: Final = 3
"""Blanks that Rich puts around a table of this kind, and between its columns."""


def console_for_people() -> Console:
    """Return a console that prints text as it is, as wide as the terminal."""
    console = Console(markup=False, highlight=False, emoji=False)
    return console if console.is_terminal else Console(width=PIPE_WIDTH, markup=False, highlight=False, emoji=False)


def print_rows(
    console: Console,
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    head: Callable[[Sequence[str]], str],
    below: int,
) -> None:
    """Print rows as a table, or as blocks where it does not fit.

    Args:
        console: where to.
        columns: the headings.
        rows: the cells.
        head: gives the first line of a row's block.
        below: the first column that stands on lines of its own below it.
    """
    rows = list(rows)
    table = _table(columns, rows, console.width)
    if table is not None:
        console.print(table)
        return
    console.print()
    for row in rows:
        console.print(head(row), soft_wrap=True)
        for column, cell in zip(columns[below:], row[below:], strict=True):
            for line in cell.splitlines():
                console.print(_hanging(f"  {column}  ", line, console.width), soft_wrap=True)
    console.print()


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> Table | None:
    """Return a table of at most so many columns; None where it would break a word, or have hardly two on a line."""
    cells = [[heading, *(row[number] for row in rows)] for number, heading in enumerate(columns)]
    least = [max(cell_len(word) for text in column for word in (text.split() or [""])) for column in cells]
    most = [max(cell_len(line) for text in column for line in (text.splitlines() or [""])) for column in cells]
    widths = _widths(least, most, width - _AROUND - _BETWEEN * (len(columns) - 1))
    if not widths or any(width * 2 < wanted for width, wanted in zip(widths, most, strict=True)):
        return None
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading, column_width in zip(columns, widths, strict=True):
        table.add_column(heading, width=column_width)
    for row in rows:
        table.add_row(*row)
    return table


def _widths(least: Sequence[int], most: Sequence[int], room: int) -> list[int]:
    """Narrow the widest columns till all fit, none below its longest word, which Rich would break; [] if they can't."""
    widths = list(most)
    while sum(widths) > room:
        wide = [number for number, width in enumerate(widths) if width > least[number]]
        if not wide:
            return []
        widths[max(wide, key=widths.__getitem__)] -= 1
    return widths


def _hanging(margin: str, text: str, width: int) -> str:
    """Break a text between words, its lines below one another; what has no blank stays whole."""
    lines = wrap(text, max(1, width - len(margin)), break_long_words=False, break_on_hyphens=False)
    return margin + f"\n{' ' * len(margin)}".join(lines)
