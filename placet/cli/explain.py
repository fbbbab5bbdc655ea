"""`placet explain`: explains the decision on an input."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

import typer

from placet.cli.exit_codes import ExitCode
from placet.cli.output import OutputForm
from placet.cli.shared import (
    RETRY_WORDS,
    Where,
    changes_form,
    decision_form,
    decision_line,
    of_entity,
    print_json,
    shown,
)
from placet.cli.top.notes import spell_s
from placet.client.archive import Archive, ArchivedDecision, place_of
from placet.client.explain import Explanation, Faster, explain
from placet.client.explain_text import Case
from placet.client.past import GONE, cause_of, iso
from placet.schemas.decision import Outcome
from placet.schemas.definition.field_types import Field

__all__ = ["app"]

app = typer.Typer(add_completion=False, rich_markup_mode=None)
_OTHERS_MAX: Final = 10


@app.command("explain")
@of_entity
def explain_command(
    input_id: Annotated[
        str,
        typer.Argument(
            metavar="PROPOSAL_ID",
            help="Or a signal's or a timer's id, or TOPIC-PARTITION@OFFSET of any input.",
            show_default=False,
        ),
    ],
    entity_id: Annotated[str | None, typer.Option(help="Only a decision on this entity.")] = None,
    *,
    where: Where,
) -> None:
    """Explain the decision on an input: the rules that decided, the rung, the compared values, the changes that came
    first, and whether a retry can help.

    Where other rules are in force now, both sides of each difference are shown.

    An input whose id could not be read is named by its place, and a timer that fired by its name, the entity's life and
    the version that armed it, as `placet decisions tail` shows them. Of a timer it tells how long it was due when it
    fired. Entities that were created in the same millisecond may have timers of one id: --entity-id says which.

    Reads the whole decisions topic. Senders choose ids, so several inputs may have this one, retries or different
    proposals. The latest is explained; the others are listed, the newest first.

    Exit code: 0 explained, 1 no decision on this id is on the log, 3 wrong settings or topics, 4 no broker answered.

    Example:  placet explain 3f0c0a58-6c0f-4f0e-9d5c-0f4f1c1f2a77
    """
    with Archive(where.settings, where.wanted) as archive:
        found = archive.decisions_at(input_id) or archive.decisions_on(input_id)
        found = [decided for decided in found if entity_id in (None, decided.decision.entity_id)]
        if not found:
            typer.echo(f"There is no decision on {input_id}: not yet, or the log has let go of it.", err=True)
            raise typer.Exit(ExitCode.DIFFERENCE)
        case = archive.case_of(found[-1])
    explanation = explain(case)
    if where.output is OutputForm.JSON:
        print_json(_form(case, explanation, found[-2::-1]))
    else:
        _print(case, explanation, found[-2::-1])


def _form(case: Case, explanation: Explanation, earlier: list[ArchivedDecision]) -> dict[str, Any]:
    at = case.at
    return {
        **decision_form(case.decision),
        "proposer": None if case.message is None else case.message.proposer,
        "said": None if case.message is None else case.remarks._asdict(),
        "decided": {
            "at": iso(at.decided_at),
            "input": _place(ArchivedDecision(case.decision, at)),
            "times": len(earlier) + 1,
        },
        "timer": _timer_form(case),
        "rules": {
            "version": None if case.rules is None else case.rules.version,
            "digest": at.definition_digest.hex(),
            "in_force": None
            if case.in_force is None
            else {"version": case.in_force.version, "digest": case.in_force.digest.hex()},
            "differences": [difference._asdict() for difference in case.changed],
        },
        "others_of_this_id": [
            {**decision_form(other.decision), "decided": {"at": iso(other.at.decided_at), "input": _place(other)}}
            for other in earlier
        ],
        "rung": {"number": explanation.rung, "question": explanation.question},
        "meaning": explanation.meaning,
        "compared": [row._asdict() for row in explanation.compared],
        "commits": [{**faster._asdict(), "fields": changes_form(faster.fields)} for faster in explanation.conflicts],
        "advice": explanation.advice,
    }


def _place(decided: ArchivedDecision) -> str | None:
    return None if decided.decision.timer is not None else place_of(decided.at)


def _timer_form(case: Case) -> dict[str, Any] | None:
    timer, due = case.decision.timer, case.due
    if timer is None:
        return None
    return {
        "incarnation": timer.incarnation,
        "armed_by_version": timer.armed,
        "due": None if due is None else iso(due),
        "overdue_s": None if due is None else max(0, case.at.decided_at - due) / 1000,
    }


def _print(case: Case, explanation: Explanation, earlier: list[ArchivedDecision]) -> None:
    decision = case.decision
    by = f" by {case.message.proposer}" if case.message and case.message.proposer else ""
    reason = "" if decision.outcome is Outcome.ACCEPTED else f", {decision.reason.name}"
    what = f"{decision.kind.name.lower()} {decision.name}".strip()
    lines = [
        f"{what} of {decision.entity_id or 'no entity'}{by}: {decision.outcome.name}{reason}",
        *_when(case),
        f"  rules      {_rules(case)}",
        *(f"             {found.path}: {found.change}" for found in case.changed),
    ]
    lines += [f"  {what:<10} {text}" for what, text in _said(case)]
    if earlier:
        lines.append(f"  others     {len(earlier) + 1} inputs have this id; this is the latest, before it came")
        lines += [
            f"             {', '.join(filter(None, (decision_line(other), _place(other))))}"
            for other in earlier[:_OTHERS_MAX]
        ]
        left = len(earlier) - _OTHERS_MAX
        lines += [f"             and {left} more, see --output json"] if left > 0 else []
    rung = f"rung {explanation.rung}. " if explanation.rung else ""
    lines += [f"  ladder     {rung}{explanation.question}", f"  meaning    {explanation.meaning}"]
    lines += [
        f"  compared   {row.what}: " + " | ".join(filter(None, (row.given, row.found))) for row in explanation.compared
    ]
    for faster in explanation.conflicts:
        lines += _commit_lines(faster, case.fields)
    lines.append(
        f"  try again? {'not needed' if decision.applied else RETRY_WORDS[explanation.retry]}. {explanation.advice}"
    )
    typer.echo("\n".join(lines))


def _when(case: Case) -> list[str]:
    """When it was decided, and on what: an input by its place, a timer by when it was due and what armed it."""
    at, timer, due = case.at, case.decision.timer, case.due
    if timer is None:
        return [f"  decided    {iso(at.decided_at)}, {at.topic} partition {at.partition} offset {at.offset}"]
    late = "" if due is None else f", {spell_s(max(0, at.decided_at - due) / 1000)} after it was due"
    change = None if case.armed_by is None else case.armed_by.change
    by = "" if change is None else f", {cause_of(change)}"
    told = "when is not on the log any more" if due is None else iso(due)
    return [f"  fired      {iso(at.decided_at)}{late}", f"  due        {told}; armed by version {timer.armed}{by}"]


def _rules(case: Case) -> str:
    """Which rules decided, and whether they are those in force now."""
    in_force = case.in_force
    if case.rules is None:
        digest = case.at.definition_digest.hex()
        return f"digest {digest}, which can't be read here: not on the control topic, or of a later release"
    decided = f"version {case.rules.version}"
    if in_force is None:
        return f"{decided}; what is in force now can't be read here"
    if in_force.digest == case.rules.digest:
        return f"{decided}, in force still"
    return f"{decided}; version {in_force.version} is in force now:"


def _said(case: Case) -> list[tuple[str, str]]:
    """The proposer's texts for people; they changed no decision."""
    rationale, model, metadata = case.remarks
    rows = [("rationale", rationale), ("model", model), *(("metadata", f"{k}={v}") for k, v in metadata.items())]
    return [row for row in rows if row[1]]


def _commit_lines(faster: Faster, fields: Mapping[str, Field]) -> list[str]:
    if all(after is GONE for _, after in faster.fields.values()) and faster.fields:
        return [f"  commit     version {faster.version} changed {', '.join(faster.fields)}: {faster.cause}"]
    who = f" by {faster.who}" if faster.who else ""
    changes = [
        f"             {name}: {shown(before, fields.get(name))} -> {shown(after, fields.get(name))}"
        for name, (before, after) in faster.fields.items()
    ]
    return [f"  commit     version {faster.version}, {faster.at}: {faster.cause}{who}", *changes]
