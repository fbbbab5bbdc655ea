"""Draws a frame: numbers that matter at the top, then what needs somebody, gates, outcomes, partitions.

Fits 80 columns. Where there is a height, partitions give way first: those in trouble and with the most lag stay.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, TypeVar

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from placet.cli.top.frame import Frame, Gate, Note, NoteLevel, OutcomeRate, Partition, PartitionPhase
from placet.cli.top.notes import rules_of_gates, spell_s
from placet.schemas.decision import BY_DESIGN

__all__ = ["render"]

_BLOCKS: Final = " ▁▂▃▄▅▆▇█"
_SPARKS_MIN, _BAR, _NAME_MAX = 12, 10, 18
"""Widths, in characters."""
_BY_DESIGN: Final = frozenset(reason.name for reason in BY_DESIGN)
_STYLES: Final = {"ACCEPTED": "green", "DUPLICATE": "cyan", "REFUSED": "yellow"}
_PHASE_STYLES: Final = {
    PartitionPhase.RUNNING: "green",
    PartitionPhase.WAITING: "yellow",
    PartitionPhase.RESTORING: "magenta",
    PartitionPhase.STOPPED: "bold red",
    PartitionPhase.NOBODY: "bold red",
}
_STATES: Final = {
    PartitionPhase.RUNNING: "",
    PartitionPhase.WAITING: "… waits for a schema",
    PartitionPhase.RESTORING: "↻ restoring",
    PartitionPhase.STOPPED: "✕ stopped",
    PartitionPhase.NOBODY: "✕ nobody has it",
}
_TROUBLE: Final = (
    PartitionPhase.RUNNING, PartitionPhase.RESTORING, PartitionPhase.WAITING, PartitionPhase.STOPPED,
    PartitionPhase.NOBODY,
)  # fmt: skip
_LEVEL_STYLES: Final = {NoteLevel.BAD: "bold red", NoteLevel.ODD: "yellow"}
_AROUND: Final = 5
"""Lines of the heading and the tiles."""
_NOTES_MAX, _ROWS_MIN, _RULES_MAX = 6, 3, 2

T = TypeVar("T")


def render(frame: Frame, height: int | None = None) -> RenderableType:
    """Draw a frame.

    Args:
        frame: what to draw.
        height: lines of the terminal; None for all rows.
    """
    notes, gates, outcomes, partitions = _cut(frame, height)
    return Group(
        _heading(frame),
        Text(),
        _tiles(frame),
        Text(),
        *(_note(note) for note in notes),
        *([Text()] if notes else []),
        _gates(gates, frame),
        Text(),
        _outcomes(outcomes, frame),
        Text(),
        _partitions(partitions, frame),
    )


def _cut(frame: Frame, height: int | None) -> tuple[list[Note], list[Gate], list[OutcomeRate], list[Partition]]:
    """Choose the rows that fit: each table has a heading, a line behind it, and one for what is left out."""
    gates, outcomes, partitions = list(frame.gates), list(frame.outcomes), list(frame.partitions)
    notes = list(frame.notes)
    if height is None:
        return notes, gates, outcomes, partitions
    notes = notes[:_NOTES_MAX]
    left = height - _AROUND - len(notes) - bool(notes) - 3 * 3
    gates = _worst(gates, max(_ROWS_MIN, left - 2 * _ROWS_MIN), _trouble_of_gate)
    left -= len(gates)
    outcomes = outcomes[: max(_ROWS_MIN, left - min(len(partitions), max(_ROWS_MIN, left // 2)))]
    left -= len(outcomes)
    return notes, gates, outcomes, _worst(partitions, max(1, left), _trouble)


def _worst(rows: list[T], count: int, trouble: Callable[[T], tuple[int, int]]) -> list[T]:
    """Keep so many of the rows, those in most trouble, in the order in which they are."""
    kept = sorted(range(len(rows)), key=lambda place: trouble(rows[place]), reverse=True)[:count]
    return [rows[place] for place in sorted(kept)]


def _trouble(row: Partition) -> tuple[int, int]:
    return _TROUBLE.index(row.phase), row.lag_records or 0


def _trouble_of_gate(gate: Gate) -> tuple[int, int]:
    return (2 if gate.silent_s is not None else int(gate.stopped > 0)), gate.flow.lag_records or 0


def _heading(frame: Frame) -> Table:
    line = Table.grid(expand=True)
    line.add_column()
    line.add_column(justify="right")
    count, answering = len(frame.gates), frame.answering
    said = f"{answering} of {count} gates answer" if answering < count else f"{count} gate{'s' if count != 1 else ''}"
    left = Text.assemble(
        ("placet ", "bold"), (" ".join(frame.apps) or "?", "bold cyan"), "  ",
        (said, "bold red" if answering < count else "default"), "  ",
        (_rules(frame.gates), "bright_black"),
    )  # fmt: skip
    every = f"last {spell_s(round(frame.window_s, 1))}, " if frame.window_s else ""
    line.add_row(left, Text(f"{every}{frame.at[11:19]} UTC", "bright_black"))
    return line


def _rules(gates: Iterable[Gate]) -> str:
    """The versions of the definitions by which the gates decide: `flight v1, refund v3/v4`."""
    by_entity = {
        entity: dict.fromkeys(rules.version for rules in found) for entity, found in rules_of_gates(gates).items()
    }
    shown = [f"{entity} {'/'.join(f'v{version}' for version in versions)}" for entity, versions in by_entity.items()]
    return ", ".join(shown[:_RULES_MAX]) + (", …" if len(shown) > _RULES_MAX else "")


def _tiles(frame: Frame) -> Table:
    """The numbers of all gates together: bold over what they are."""
    flow, refused = frame.total, frame.refused_facts
    looks = f"last {len(frame.history)} looks" if len(frame.history) > 1 else ""
    tiles: list[tuple[RenderableType, str]] = [
        (_bold(_rate(flow.decisions_per_s)), "decisions/s"),
        (_Sparks(frame.history), looks),
        (_bold(_share(frame.accepted_share)), "accepted"),
        (_bold(_count(flow.lag_records)), "lag"),
        (_bold(_seconds(flow.decision_p50_s)), "p50"),
        (_bold(_seconds(flow.decision_p99_s)), "p99"),
        (Text(_short(refused), "bold red" if refused else "bold"), "refused facts"),
    ]
    grid = Table.grid(padding=(0, 2, 0, 0))
    for value, _ in tiles:
        grid.add_column(no_wrap=not isinstance(value, _Sparks))
    grid.add_row(*(value for value, _ in tiles))
    grid.add_row(*(Text(label, "bright_black", no_wrap=True) for _, label in tiles))
    return grid


class _Sparks:
    """The latest of some values as small columns, as many as there is room for."""

    def __init__(self, values: Iterable[float]) -> None:
        self._values = list(values)

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(_SPARKS_MIN, max(_SPARKS_MIN, len(self._values)))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        shown = self._values[-options.max_width :]
        top = max(shown, default=0.0) or 1.0
        yield Text("".join(_BLOCKS[max(1, round(value / top * 8))] for value in shown), "cyan", no_wrap=True)


def _note(note: Note) -> Text:
    return Text.assemble(("● ", _LEVEL_STYLES[note.level]), note.text)


def _gates(rows: list[Gate], frame: Frame) -> Table:
    table = _table("gate", "up >", "decisions/s >", "lag >", "p99 >", "commit >", "cpu >", "memory >", "tasks")
    for gate in rows:
        name = gate.gate or gate.endpoint.partition("://")[2].removesuffix("/metrics")
        if gate.silent_s is not None:
            table.add_row(_name(name, "bold red"), *[""] * 7, _name(f"silent {spell_s(gate.silent_s)}", "red"))
            continue
        flow = gate.flow
        table.add_row(
            _name(name, "bold"), _known(spell_s, gate.up_s), _rate(flow.decisions_per_s), _count(flow.lag_records),
            _seconds(flow.decision_p99_s), _seconds(flow.commit_p99_s), _share(gate.cpu_share),
            _known(lambda size: f"{size / 2**20:,.0f}M", gate.memory_bytes), _tasks(gate),
        )  # fmt: skip
    return _with_rest(table, len(frame.gates) - len(rows))


def _tasks(gate: Gate) -> Text:
    """How many tasks run, and behind a sign those that wait, are restored or stopped."""
    counts = (
        (gate.running, "", PartitionPhase.RUNNING),
        (gate.waiting, "…", PartitionPhase.WAITING),
        (gate.restoring, "↻", PartitionPhase.RESTORING),
        (gate.stopped, "✕", PartitionPhase.STOPPED),
    )
    parts = [Text(f"{sign}{count}", _PHASE_STYLES[phase]) for count, sign, phase in counts if count]
    return Text(" ").join(parts) if parts else Text("stands by", "bright_black")


def _outcomes(rows: list[OutcomeRate], frame: Frame) -> Table:
    timed = any(row.timers for row in frame.outcomes)  # there is room for their column, or for the bar
    between = ("timers/s >", "share >") if timed else ("share >", "")
    table = _table("outcome", "reason", "facts/s >", "prop./s >", *between, "since start >")
    for row in rows:
        style = _STYLES.get(row.outcome, "default")
        facts = _quiet_rate(row.facts_per_s)
        if row.outcome == "REFUSED" and row.reason not in _BY_DESIGN and row.facts:
            facts.stylize("bold red")
        table.add_row(
            Text(row.outcome, style), Text("" if row.reason == "NONE" else row.reason, style), facts,
            _quiet_rate(row.proposals_per_s), *([_quiet_rate(row.timers_per_s)] if timed else []),
            _share(row.share) if row.share else "",
            *([] if timed else [_bar(row.share or 0.0, style)]), _count(row.facts + row.proposals + row.timers),
        )  # fmt: skip
    return _with_rest(table, len(frame.outcomes) - len(rows))


def _partitions(rows: list[Partition], frame: Frame) -> Table:
    table = _table("partition", "gate", "decisions/s >", "", "lag >", "")
    fastest = max((row.decisions_per_s or 0.0 for row in frame.partitions), default=0.0)
    for row in rows:
        style, runs = _PHASE_STYLES[row.phase], row.phase is PartitionPhase.RUNNING
        app = f"{row.app} " if len(frame.apps) > 1 else ""
        bar = _bar((row.decisions_per_s or 0.0) / fastest if fastest else 0.0, "cyan")
        if row.restore and row.restore.share is not None:
            bar = _bar(row.restore.share, style, rest="bright_black")
        table.add_row(
            _name(f"{app}{row.entity}-{row.partition}", "bold" if runs else style), _name(", ".join(row.gates) or "–"),
            _rate(row.decisions_per_s) if runs else "", bar, _count(row.lag_records) if runs else "", _state(row),
        )  # fmt: skip
    return _with_rest(table, len(frame.partitions) - len(rows))


def _state(row: Partition) -> Text:
    style = _PHASE_STYLES[row.phase]
    if row.restore is None:
        return Text(_STATES[row.phase], style)
    ahead, left_s = row.restore.ahead_records, row.restore.left_s
    parts = [
        "↻ restoring" if row.restore.share is None else f"↻ {row.restore.share:.0%}",
        *([] if ahead is None else [f"{_short(ahead)} left"]),
        *([] if left_s is None else [spell_s(left_s)]),
    ]
    return Text(", ".join(parts), style, no_wrap=True, overflow="ellipsis")


def _table(*headings: str) -> Table:
    """A table without lines; `>` behind a heading: numbers, to the right, that never give way to names."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bright_black")
    for heading in headings:
        name = heading.removesuffix(" >")
        table.add_column(name, justify="right" if name != heading else "left", no_wrap=name != heading or not name)
    return table


def _name(text: str, style: str = "") -> Text:
    """A name on one line; of a long one the end, which tells pods apart."""
    short = text if len(text) <= _NAME_MAX else f"…{text[1 - _NAME_MAX :]}"
    return Text(short, style, no_wrap=True, overflow="ellipsis")


def _with_rest(table: Table, hidden: int) -> Table:
    if hidden > 0:
        table.add_row(Text(f"… {hidden} more", "bright_black"))
    return table


def _bar(share: float, style: str, rest: str = "") -> Text:
    """A bar of so much of its width, in halves of a character; `rest` is the style of what is not reached."""
    halves = round(min(share, 1.0) * _BAR * 2) or int(share > 0)
    full, half = divmod(halves, 2)
    bar = Text("━" * full + "╸" * half, style)
    return bar.append("━" * (_BAR - full - half) if rest else " " * (_BAR - full - half), rest)


def _bold(text: Text) -> Text:
    text.stylize("bold")
    return text


def _known(spell: Callable[[float], str], value: float | None) -> Text:
    return Text("–", "bright_black") if value is None else Text(spell(value))


def _rate(value: float | None) -> Text:
    return _known(lambda rate: f"{rate:.1f}" if 0 < rate < 9.95 else _short(rate), value)


def _quiet_rate(value: float | None) -> Text:
    return _rate(value) if value is None or value > 0 else Text()


def _count(value: float | None) -> Text:
    return _known(_short, value)


def _seconds(value: float | None) -> Text:
    return _known(spell_s, value)


def _share(value: float | None) -> Text:
    return _known(lambda share: f"{share:.1%}" if share < 0.0995 else f"{share:.0%}", value)


def _short(value: float) -> str:
    """1,234,567 as it is while it fits, else in millions."""
    if value >= 1e9:
        return f"{value / 1e9:.2f} G"
    return f"{value / 1e6:.2f} M" if value >= 1e6 else f"{value:,.0f}"
