"""The report for a terminal: the two numbers, the tables, in words. Pure but for the printing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

Report = Mapping[str, Any]


def summary(found: Report, out: Console) -> None:
    """Print it."""
    head = found["headline"]
    out.print()
    out.print(f"Without a gate  [bold red]{head['without']:>6,}[/]  writes that broke the flights' state")
    out.print(f"With the gate   [bold green]{head['with']:>6,}[/]")
    inputs, seconds = found["inputs"], found["run"]["seconds"]
    out.print(
        f"Of {inputs['proposals']:,} proposals among {inputs['facts']:,} facts, in the order of the log. "
        f"{inputs['counted']:,} count: their AI would have read the same row without a gate. "
        f"If each write touched only its own columns, {head['without_columns']:,} would be wrong."
    )
    out.print(_rules(found))
    out.print(_outcomes(found, explained=out.width >= 120))
    latency, takeover = found["latency_ms"], found["takeover"]
    out.print(
        f"{found['decided']:,} decisions in {seconds:.0f} s. From an input's place on the log to a decision "
        f"that anyone can read: half within {latency['p50']} ms, 90 % within {latency['p90']} ms."
    )
    if takeover:
        out.print(
            f"{takeover['gate']} was killed with -9; {takeover['took_s']:.1f} s later its partitions were decided on "
            "again."
        )
    fallback = found["fallback"]
    out.print(
        f"A rule told the passengers of {fallback['told']:,} flights, as no AI had in time: "
        f"{fallback['told_meanwhile']:,} of them in the {fallback['seconds']:.0f} s in which both AIs stood still."
    )
    out.print(_verified(found["verify"]))
    out.print("No difference." if not found["verify"]["differences"] else f"The first: {found['verify']['first']}")


def _rules(found: Report) -> Table:
    table = Table(title="What would have happened without a gate", title_justify="left")
    table.add_column("rule (a write may break several)")
    for heading in ("last writer wins", "own columns only", "with the gate"):
        table.add_column(heading, justify="right")
    for rule in found["rules"]:
        table.add_row(rule["title"], *(f"{rule[name]:,}" for name in ("without", "without_columns", "with")))
    return table


def _outcomes(found: Report, *, explained: bool) -> Table:
    table = Table(title="What was decided, and why", title_justify="left")
    for heading in ("outcome", "reason"):
        table.add_column(heading, no_wrap=True)
    for heading in ("facts", "proposals"):
        table.add_column(heading, justify="right")
    if explained:
        table.add_column("that is")
    for row in found["outcomes"]:
        numbers = (f"{row[kind]:,}" if row[kind] else "" for kind in ("facts", "proposals"))
        table.add_row(row["outcome"], row["reason"], *numbers, *([row["meaning"]] if explained else []))
    return table


def _verified(verify: Mapping[str, Any]) -> Table:
    table = Table(title="placet verify: decided again, byte by byte", title_justify="left")
    table.add_column("task")
    for heading in ("inputs", "decisions", "changes", "differences"):
        table.add_column(heading, justify="right")
    for task in verify["tasks"]:
        numbers = (f"{task[name]:,}" for name in ("inputs", "decisions", "changes", "differences"))
        table.add_row(f"{task['entity']}-{task['partition']}", *numbers)
    return table
