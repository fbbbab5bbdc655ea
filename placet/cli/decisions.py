"""`placet decisions tail` and `placet explain`: what the gate said, and why."""

from __future__ import annotations

import json
from typing import Annotated, Any, Final

import typer

from placet.cli.entity import RETRY_WORDS, Where, changes_form, decision_form, of_entity, print_json, shown
from placet.cli.exit_codes import ExitCode
from placet.cli.options import Output
from placet.client.archive import Archive, ArchivedDecision
from placet.client.compared import Case
from placet.client.explain import Explanation, Faster, explain
from placet.client.past import GONE, iso
from placet.schemas.decision import Coordinates, Outcome

__all__ = ["app", "explain_app"]

app = typer.Typer(help="Show the gate's decisions.", no_args_is_help=True, add_completion=False, rich_markup_mode=None)
_OTHERS_MAX: Final = 10
explain_app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.callback()
def decisions() -> None:
    """Show the gate's decisions."""


@app.command("tail")
@of_entity
def tail(
    entity_id: Annotated[str | None, typer.Option(help="Only those on this entity.")] = None,
    refused: Annotated[bool, typer.Option("--refused", help="Only those that were not applied.")] = False,
    count: Annotated[int, typer.Option("--lines", "-n", min=0, help="How many of the latest.")] = 10,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with those to come, until Ctrl-C.")] = False,
    *,
    where: Where,
) -> None:
    """Show the latest decisions, and with --follow those to come. JSON comes as one object for each line.

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


@explain_app.command("explain")
@of_entity
def explain_command(
    input_id: Annotated[str, typer.Argument(metavar="PROPOSAL_ID", help="Or a signal's id.", show_default=False)],
    *,
    where: Where,
) -> None:
    """Say why an input was decided as it was: which rung, what it compared, who was faster, whether trying again helps.

    Reads the decisions' log from end to end. Ids are the senders': where several inputs have this one, be they retries
    or different proposals, the latest is explained, and the others are listed, the newest first.

    Exit code: 0 explained, 1 no decision on this id is on the log, 3 wrong settings or topics, 4 no broker answered.

    Example:  placet explain 3f0c0a58-6c0f-4f0e-9d5c-0f4f1c1f2a77
    """
    with Archive(where.settings, where.wanted) as archive:
        found = archive.decisions_on(input_id)
        if not found:
            typer.echo(f"There is no decision on {input_id}: not yet, or the log has let go of it.", err=True)
            raise typer.Exit(ExitCode.DIFFERENCE)
        case = archive.case_of(found[-1])
    explanation = explain(case)
    if where.output is Output.JSON:
        print_json(_form(case, explanation, found[-2::-1]))
    else:
        _print(case, explanation, found[-2::-1])


def _print_line(decided: ArchivedDecision, output: Output) -> None:
    decision, at = decided
    if output is Output.JSON:
        typer.echo(json.dumps({**decision_form(decision), "decided_at": iso(at.decided_at)}, ensure_ascii=False))
        return
    typer.echo(_line(decided))


def _line(decided: ArchivedDecision) -> str:
    decision, at = decided
    reason = "" if decision.outcome is Outcome.ACCEPTED else decision.reason.name
    return (
        f"{iso(at.decided_at)}  {decision.outcome.name:<9} {reason:<18} {decision.name} of {decision.entity_id} "
        f"({decision.input_id})"
    )


def _form(case: Case, explanation: Explanation, earlier: list[ArchivedDecision]) -> dict[str, Any]:
    at = case.at
    return {
        **decision_form(case.decision),
        "proposer": None if case.message is None else case.message.proposer,
        "said": None if case.message is None else case.remarks._asdict(),
        "decided": {
            "at": iso(at.decided_at),
            "input": _place(at),
            "definition_version": None if case.rules is None else case.rules.version,
            "times": len(earlier) + 1,
        },
        "others_of_this_id": [
            {**decision_form(other.decision), "decided": {"at": iso(other.at.decided_at), "input": _place(other.at)}}
            for other in earlier
        ],
        "rung": {"number": explanation.rung, "question": explanation.question},
        "meaning": explanation.meaning,
        "compared": [row._asdict() for row in explanation.compared],
        "commits": [{**faster._asdict(), "fields": changes_form(faster.fields)} for faster in explanation.conflicts],
        "advice": explanation.advice,
    }


def _place(at: Coordinates) -> str:
    return f"{at.topic}-{at.partition}@{at.offset}"


def _print(case: Case, explanation: Explanation, earlier: list[ArchivedDecision]) -> None:
    decision, at = case.decision, case.at
    by = f" by {case.message.proposer}" if case.message and case.message.proposer else ""
    reason = "" if decision.outcome is Outcome.ACCEPTED else f", {decision.reason.name}"
    lines = [
        f"{decision.kind.name.lower()} {decision.name} of {decision.entity_id}{by}: {decision.outcome.name}{reason}",
        f"  decided    {iso(at.decided_at)}, {at.topic} partition {at.partition} offset {at.offset}"
        + (f", definition version {case.rules.version}" if case.rules else ""),
    ]
    lines += [f"  {what:<10} {text}" for what, text in _said(case)]
    if earlier:
        lines.append(f"  others     {len(earlier) + 1} inputs have this id; this is the latest, before it came")
        lines += [f"             {_line(other)}, {_place(other.at)}" for other in earlier[:_OTHERS_MAX]]
        left = len(earlier) - _OTHERS_MAX
        lines += [f"             and {left} more, see --output json"] if left > 0 else []
    rung = f"rung {explanation.rung}. " if explanation.rung else ""
    lines += [f"  ladder     {rung}{explanation.question}", f"  meaning    {explanation.meaning}"]
    lines += [
        f"  compared   {row.what}: " + " | ".join(filter(None, (row.given, row.found))) for row in explanation.compared
    ]
    for faster in explanation.conflicts:
        lines += _commit_lines(faster)
    lines.append(
        f"  try again? {'not needed' if decision.applied else RETRY_WORDS[explanation.retry]}. {explanation.advice}"
    )
    typer.echo("\n".join(lines))


def _said(case: Case) -> list[tuple[str, str]]:
    """What the proposer said for people; it decided nothing."""
    rationale, model, metadata = case.remarks
    rows = [("rationale", rationale), ("model", model), *(("metadata", f"{k}={v}") for k, v in metadata.items())]
    return [row for row in rows if row[1]]


def _commit_lines(faster: Faster) -> list[str]:
    if all(after is GONE for _, after in faster.fields.values()) and faster.fields:
        return [f"  commit     version {faster.version} changed {', '.join(faster.fields)}: {faster.cause}"]
    who = f" by {faster.who}" if faster.who else ""
    changes = [
        f"             {name}: {shown(before)} -> {shown(after)}" for name, (before, after) in faster.fields.items()
    ]
    return [f"  commit     version {faster.version}, {faster.at}: {faster.cause}{who}", *changes]
