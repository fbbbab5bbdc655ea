"""`placet decisions tail`: the gate's decisions."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from placet.cli.output import OutputForm
from placet.cli.shared import Where, decision_form, decision_line, of_entity
from placet.client.archive import Archive, ArchivedDecision
from placet.client.past import iso

__all__ = ["app"]

app = typer.Typer(help="Show the gate's decisions.", no_args_is_help=True, add_completion=False, rich_markup_mode=None)


@app.callback()
def decisions() -> None:
    """Show the gate's decisions."""


@app.command("tail")
@of_entity
def tail(
    entity_id: Annotated[str | None, typer.Option(help="Only decisions on this entity.")] = None,
    refused: Annotated[bool, typer.Option("--refused", help="Only decisions on inputs that were not applied.")] = False,
    count: Annotated[int, typer.Option("--lines", "-n", min=0, help="How many of the latest decisions.")] = 10,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with new decisions, until Ctrl-C.")] = False,
    *,
    where: Where,
) -> None:
    """Show the latest decisions, and with --follow new ones. JSON is one object for each line.

    Of an input whose id could not be read it shows the place: topic, partition and offset.

    Exit code: 0 shown, 3 wrong settings or topics, 4 no broker answered, 130 ended by Ctrl-C.

    Example:  placet decisions tail --refused --follow
    """

    def wanted(decided: ArchivedDecision) -> bool:
        decision = decided.decision
        return (entity_id is None or decision.entity_id == entity_id) and not (refused and decision.applied)

    with Archive(where.settings, where.wanted) as archive:
        ends = archive.ends_of_decisions()
        latest = archive.latest_decisions(count, wanted)
        for decided in latest:
            _print_line(decided, where.output)
        shown = {_input_of(decided) for decided in latest}
        for decided in archive.follow_decisions(ends, wanted) if follow else ():
            if _input_of(decided) not in shown:  # what came between the two looks was shown already
                _print_line(decided, where.output)


def _input_of(decided: ArchivedDecision) -> tuple[str, int, int]:
    return decided.at.topic, decided.at.partition, decided.at.offset


def _print_line(decided: ArchivedDecision, output: OutputForm) -> None:
    decision, at = decided
    if output is OutputForm.JSON:
        place = {"topic": at.topic, "partition": at.partition, "offset": at.offset}
        form = {**decision_form(decision), "decided_at": iso(at.decided_at), "input": place}
        typer.echo(json.dumps(form, ensure_ascii=False))
        return
    typer.echo(decision_line(decided))
