"""What a long run has shown: verdicts, tables, one JSON object."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from bench.soak.run import Event, Seen
from bench.soak.site import KILLED, SAMPLE_EVERY_S, Life
from bench.soak.slopes import LONG_ENOUGH_S, MOST_PER_H, WARM_UP_S, Slopes, slopes_of
from bench.soak.waits import Gap, Wait

__all__ = ["Verdict", "as_json", "print_report", "verdicts"]


class Verdict(NamedTuple):
    """Whether something holds: None where there was not enough to say; and what was seen."""

    what: str
    holds: bool | None
    seen: str


def verdicts(seen: Seen) -> list[Verdict]:
    """Judge a run."""
    return [
        _verified(seen), _decided_once(seen), _without_traceback(seen.lives), _no_task_stopped(seen.lives),
        _exit_codes(seen.lives), *_grown(seen.lives),
        Verdict("every fault came and went", not seen.trouble, "; ".join(seen.trouble) or f"{len(seen.events)} faults"),
    ]  # fmt: skip


def _verified(seen: Seen) -> Verdict:
    code, said = seen.verify
    if isinstance(said, str):
        return Verdict("placet verify is clean", False, f"exit code {code}: {said}")
    inputs = sum(task["inputs"] for task in said["tasks"])
    text = f"{said['differences']} differences in {inputs:,} inputs"
    return Verdict("placet verify is clean", code == 0, text if code == 0 else f"{text}; the first: {said['first']}")


def _decided_once(seen: Seen) -> Verdict:
    undecided, doubled, unasked = seen.waits.undecided(), seen.waits.doubled, seen.waits.unasked()
    parts = [f"{seen.waits.inputs:,} inputs, {seen.waits.decisions:,} decisions"]
    for what, places in (("without a decision", undecided), ("with more than one", doubled)):
        if places:
            topic, partition, offset = places[0]
            parts.append(f"{len(places):,} {what}, such as {topic}-{partition}@{offset}")
    if unasked:
        parts.append(f"{unasked:,} decisions on what was not seen to come in")
    return Verdict("every input is decided exactly once", not (undecided or doubled or unasked), "; ".join(parts))


def _without_traceback(lives: Sequence[Life]) -> Verdict:
    whole = [life for life in lives if life.expected != KILLED]
    found = [life.log for life in whole if "Traceback" in life.gate.text()]
    return Verdict("no log of a gate has a traceback", not found, ", ".join(found) or f"{len(whole)} logs")


def _no_task_stopped(lives: Sequence[Life]) -> Verdict:
    found = [
        f"{event['task']} ({life.log}): {event['why']}" for life in lives for event in life.gate.events("task stopped")
    ]
    return Verdict("no task was stopped", not found, "; ".join(found) or "none")


def _exit_codes(lives: Sequence[Life]) -> Verdict:
    wrong = [life for life in lives if life.found != life.expected or life.found is None]
    told = [
        f"{life.log} ended with {life.found} amid: {life.amid}" if life.expected is None
        else f"{life.log}: {life.found} instead of {life.expected}"
        for life in wrong
    ]  # fmt: skip
    codes = Counter(life.found for life in lives)
    usual = ", ".join(f"{count} times {code}" for code, count in sorted(codes.items(), key=str))
    return Verdict("each gate ended as it should", not wrong, "; ".join(told) or usual)


def _grown(lives: Sequence[Life]) -> Iterator[Verdict]:
    """One verdict for each of memory, files, threads; of the process that grew most."""
    found = [slopes for life in lives if (slopes := slopes_of(life.samples))]
    for name, most, label, unit in zip(
        Slopes._fields, MOST_PER_H, ("memory", "open files", "threads"), (" MiB", "", ""), strict=True
    ):
        what = f"{label} of a gate grow by at most {most:g}{unit} an hour"
        if not found:
            minutes = (WARM_UP_S + LONG_ENOUGH_S) / 60
            yield Verdict(what, None, f"no gate lived for {minutes:g} minutes")
        else:
            grown = max(getattr(slopes, name) for slopes in found)
            yield Verdict(what, grown <= most, f"{grown:+.1f}{unit} an hour, the most of {len(found)} processes")


def gaps_of(seen: Seen) -> list[tuple[Event, Gap]]:
    """The longest waits of the facts that came in from the start of each fault to the start of the next one."""
    now_ms = max((event.until_s for event in seen.events), default=0.0) * 1000
    return [(event, seen.waits.longest(event.since_s * 1000, event.until_s * 1000, now_ms)) for event in seen.events]


def as_json(seen: Seen, about: dict[str, Any]) -> dict[str, Any]:
    """Return all of it as one object."""
    found = verdicts(seen)
    return {
        **about,
        "holds": all(verdict.holds is not False for verdict in found),
        "interrupted": seen.interrupted,
        "verdicts": [verdict._asdict() for verdict in found],
        "faults": [
            {
                "kind": event.kind, "since_s": round(event.since_s, 3),
                "seconds": round(event.over_s - event.since_s, 1),
                "gates_s": gap.gates.seconds, "copier_s": gap.copier.seconds, "copier_anew": event.copier_anew,
                "longest": {name: _where(wait, event) for name, wait in gap._asdict().items() if wait.came_ms},
                "said": event.said, "failed": event.failed,
            }
            for event, gap in gaps_of(seen)
        ],
        "left_out": seen.left_out,
        "inputs": seen.waits.inputs, "facts": seen.waits.facts, "copies": seen.waits.copies,
        "decisions": seen.waits.decisions, "outcomes": dict(seen.waits.outcomes),
        "gates": [_life(life) for life in seen.lives],
    }  # fmt: skip


def _where(wait: Wait, event: Event) -> dict[str, Any]:
    """Which fact waited longest, by its time from the fault's start on."""
    return {"partition": wait.partition, "came_s": round(wait.came_ms / 1000 - event.since_s, 3)}


def _life(life: Life) -> dict[str, Any]:
    first, last, slopes = life.samples[:1], life.samples[-1:], slopes_of(life.samples)
    return {
        "log": life.log, "exit_code": life.found, "expected": life.expected, "amid": life.amid,
        "seconds": round(last[0].at_s - life.began_s) if last else 0,
        "rss_mib": [round(sample.rss_mib, 1) for sample in first + last],
        "rss_mib_each_minute": [round(sample.rss_mib) for sample in life.samples[:: round(60 / SAMPLE_EVERY_S)]],
        "files": [sample.files for sample in first + last], "threads": [sample.threads for sample in first + last],
        "per_hour": {name: round(value, 2) for name, value in slopes._asdict().items()} if slopes else None,
    }  # fmt: skip


def print_report(out: Console, seen: Seen, title: str) -> None:
    """Print it as tables."""
    out.print(_faults(seen, title), _lives(seen.lives), _judged(verdicts(seen)))
    waits = seen.waits
    outcomes = ", ".join(f"{count:,} {outcome}" for outcome, count in waits.outcomes.most_common())
    out.print(
        f"{waits.inputs:,} inputs, {waits.facts:,} of them facts; decisions: {outcomes}; {waits.copies:,} copies."
    )
    if seen.left_out:
        out.print(f"Left out, for want of time: {', '.join(seen.left_out)}.")
    if seen.interrupted:
        out.print("Ended early, as it was told to.")


def _table(title: str, first: str, *others: str) -> Table:
    table = Table(title=title, title_justify="left", caption_justify="left")
    table.add_column(first)
    for other in others:
        table.add_column(other, justify="right")
    return table


def _faults(seen: Seen, title: str) -> Table:
    table = _table(title, "fault", "times", "gates", "copier")
    table.caption = (
        "The longest time that a fact waited for its decision (gates), and for its copy (copier).\n"
        "* the copier hung, and was started anew."
    )
    by_kind: dict[str, list[tuple[Event, Gap]]] = {}
    for event, gap in gaps_of(seen):
        by_kind.setdefault(event.kind, []).append((event, gap))
    for kind, found in by_kind.items():
        anew = " *" if any(event.copier_anew for event, _ in found) else ""
        table.add_row(
            kind, str(len(found)), f"{max(gap.gates.seconds for _, gap in found):.1f} s",
            f"{max(gap.copier.seconds for _, gap in found):.1f} s{anew}",
        )  # fmt: skip
    return table


def _lives(lives: Sequence[Life]) -> Table:
    table = _table("Gates", "log", "minutes", "exit code", "memory, MiB", "files", "threads", "an hour")
    for life in lives:
        each = _life(life)
        per_hour = each["per_hour"]
        told = "{rss_mib:+.1f} MiB, {files:+.1f}, {threads:+.1f}".format(**per_hour) if per_hour else ""
        between = [" to ".join(f"{value:.0f}" for value in each[name]) for name in ("rss_mib", "files", "threads")]
        table.add_row(life.log, f"{each['seconds'] / 60:.1f}", str(life.found), *between, told)
    return table


def _judged(found: Sequence[Verdict]) -> Table:
    table = Table(title="Verdicts", title_justify="left")
    for name in ("", "what", "seen"):
        table.add_column(name)
    words = {True: "[green]holds[/]", False: "[red]does not[/]", None: "too short"}
    for verdict in found:
        table.add_row(words[verdict.holds], verdict.what, verdict.seen.replace("[", "\\["))
    return table
