"""Pictures as SVG text, for a page without scripts: lines, stacked columns, and where something happened. Pure.

Colours are CSS variables, so that one picture serves light and dark. A picture is drawn for a width in pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from html import escape
from typing import NamedTuple

LEFT, RIGHT, TOP, BOTTOM = 46, 12, 26, 40


class Line(NamedTuple):
    """A line through points (x, y), in a colour; `filled` down to the axis; `ends` with its last value and its name."""

    name: str
    colour: str
    points: Sequence[tuple[float, float]]
    filled: bool = False
    ends: bool = False


class Column(NamedTuple):
    """One column over [x, x + 1): heights by name, from the bottom up."""

    x: int
    parts: Sequence[tuple[str, float]]


class Band(NamedTuple):
    """A stretch of time in which something was so, with a word for it."""

    begin: float
    end: float
    word: str


class Axes:
    """A picture's frame: scales, grid, ticks, bands, marks of days.

    Args:
        width, height: in pixels.
        x_most, y_most: the largest values; the axes begin at 0.
        x_word: what stands under the axis.
    """

    def __init__(self, width: int, height: int, x_most: float, y_most: float, x_word: str = "seconds") -> None:
        self.width, self.height, self._x_word = width, height, x_word
        self.x_most, self.y_most = x_most or 1, nice(y_most)

    def x(self, value: float) -> float:
        """Return a value's place from the left."""
        return LEFT + (self.width - LEFT - RIGHT) * value / self.x_most

    def y(self, value: float) -> float:
        """Return a value's place from the top."""
        return TOP + (self.height - TOP - BOTTOM) * (1 - value / self.y_most)

    def frame(self, label: Callable[[float], str] = lambda value: f"{value:,.0f}") -> str:
        """Return grid lines and ticks."""
        bottom = self.height - BOTTOM
        parts = []
        for value in (self.y_most * share / 4 for share in range(5)):
            y = self.y(value)
            parts.append(f'<line class="grid" x1="{LEFT}" x2="{self.width - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
            parts.append(f'<text class="tick" x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{label(value)}</text>')
        for value in steps(self.x_most, 6 if self.width > 600 else 4):
            word = f"{value:,.0f}" + (f" {self._x_word}" if value == 0 else "")
            anchor = "start" if value == 0 else "middle"
            parts.append(
                f'<text class="tick" x="{self.x(value):.1f}" y="{bottom + 16}" text-anchor="{anchor}">{word}</text>'
            )
        return "".join(parts)

    def bands(self, bands: Iterable[Band]) -> str:
        """Return shaded stretches, with their words on top."""
        top, height = TOP, self.height - TOP - BOTTOM
        return "".join(
            f'<rect class="band" x="{self.x(band.begin):.1f}" y="{top}" height="{height}" '
            f'width="{max(1.0, self.x(band.end) - self.x(band.begin)):.1f}"/>'
            f'<text class="word" x="{self.x(band.begin):.1f}" y="{top - 9}">{escape(band.word)}</text>'
            for band in bands
        )

    def days(self, days: Iterable[tuple[float, str]]) -> str:
        """Return marks under the axis, for days that begin."""
        bottom, parts = self.height - BOTTOM, []
        for at, word in days:
            if 0 <= at <= self.x_most:
                x = self.x(at)
                parts.append(f'<line class="day" x1="{x:.1f}" x2="{x:.1f}" y1="{bottom}" y2="{self.height - 4}"/>')
                parts.append(f'<text class="tick" x="{x + 4:.1f}" y="{self.height - 7}">{escape(word)}</text>')
        return "".join(parts)


def nice(value: float) -> float:
    """Return the next larger value whose quarters are easy to read."""
    if value <= 0:
        return 4
    size = 10.0 ** (len(str(int(value))) - 1)
    return next(size * factor for factor in (1, 1.2, 1.6, 2, 3, 4, 6, 8, 10, 12) if size * factor >= value)


def steps(most: float, about: int) -> list[float]:
    """Return about so many round values from 0 on, none larger than `most`."""
    rough = most / about
    size = 10.0 ** (len(str(int(max(1.0, rough)))) - 1)
    step = next(size * factor for factor in (1, 2, 5, 10) if size * factor >= rough)
    return [step * number for number in range(int(most / step) + 1)]


def lines(axes: Axes, drawn: Sequence[Line]) -> str:
    """Return lines, each with what it ends at as a tooltip."""
    parts = []
    for line in drawn:
        if not line.points:
            continue
        path = " ".join(f"{axes.x(x):.1f},{axes.y(min(y, axes.y_most)):.1f}" for x, y in line.points)
        if line.filled:
            first, last = axes.x(line.points[0][0]), axes.x(line.points[-1][0])
            floor = axes.y(0)
            parts.append(
                f'<polygon points="{first:.1f},{floor:.1f} {path} {last:.1f},{floor:.1f}" '
                f'style="fill:var(--{line.colour});opacity:.14"/>'
            )
        title = f"<title>{escape(line.name)}: {line.points[-1][1]:,.0f} at the end</title>"
        if line.ends:
            x, y = line.points[-1]
            word = f"{y:,.0f} {line.name}"
            parts.append(
                f'<text class="word end" x="{axes.x(x):.1f}" y="{axes.y(y) - 9:.1f}" text-anchor="end" '
                f'style="fill:var(--{line.colour})">{escape(word)}</text>'
            )
        parts.append(f'<polyline class="line" points="{path}" style="stroke:var(--{line.colour})">{title}</polyline>')
    return "".join(parts)


def columns(axes: Axes, drawn: Iterable[Column], colours: dict[str, str]) -> str:
    """Return stacked columns; each part says what it is."""
    parts = []
    for column in drawn:
        height = 0.0
        left, right = axes.x(column.x), axes.x(column.x + 1)
        for name, value in column.parts:
            if value:
                top, floor = axes.y(height + value), axes.y(height)
                parts.append(
                    f'<rect x="{left + 0.5:.1f}" y="{top:.1f}" width="{max(0.8, right - left - 1):.1f}" '
                    f'height="{floor - top:.1f}" style="fill:var(--{colours[name]})">'
                    f"<title>second {column.x}: {value:,.0f} {escape(name)}</title></rect>"
                )
                height += value
    return "".join(parts)


def svg(axes: Axes, described: str, *parts: str) -> str:
    """Return the picture."""
    return (
        f'<svg viewBox="0 0 {axes.width} {axes.height}" width="{axes.width}" height="{axes.height}" role="img" '
        f'aria-label="{escape(described)}">{"".join(parts)}</svg>'
    )
