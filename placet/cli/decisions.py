"""`placet decisions`: the gate's decisions, and the bytes of the inputs that did not decode."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Annotated, Any, Final

import typer

from placet.cli.output import OutputForm
from placet.cli.shared import Where, decision_form, decision_line, input_form, of_entity
from placet.client.archive import Archive, ArchivedDecision, place_of
from placet.client.past import iso
from placet.schemas.codec.dead_letter import DeadLetter

__all__ = ["app"]

_SHOWN_MAX: Final = 200
"""Characters of a dead letter that text output shows."""

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

    Of an input whose id could not be read it shows the place: topic, partition and offset. A timer that fired has no
    place; it shows the version that armed it.

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
        shown = {_number_of(decided) for decided in latest}
        for decided in archive.follow_decisions(ends, wanted) if follow else ():
            if _number_of(decided) not in shown:  # what came between the two looks was shown already
                _print_line(decided, where.output)


@app.command("dead-letters")
@of_entity
def dead_letters(
    count: Annotated[int, typer.Option("--lines", "-n", min=0, help="How many of the latest ones.")] = 10,
    *,
    where: Where,
) -> None:
    """Show the latest inputs that did not decode: why, where they lie, and their bytes.

    Text output shows the beginning of the bytes, as text where they are text. JSON is one object for each line, with
    all bytes that were kept, in Base64.

    Exit code: 0 shown, 3 wrong settings or topics, 4 no broker answered.

    Example:  placet decisions dead-letters --output json | jq -r .value | base64 -d
    """
    with Archive(where.settings, where.wanted) as archive:
        for letter in archive.dead_letters(count):
            typer.echo(json.dumps(_letter_form(letter)) if where.output is OutputForm.JSON else _letter_text(letter))


def _letter_form(letter: DeadLetter) -> dict[str, Any]:
    return {
        "input": {"topic": letter.topic, "partition": letter.partition, "offset": letter.offset},
        "at": iso(letter.log_time),
        "reason": letter.reason.name,
        "detail": letter.detail,
        "key": _base64(letter.key),
        "value": _base64(letter.value),
        "value_size": letter.value_size,
        "headers": [{"name": name, "value": _base64(value)} for name, value in letter.headers],
    }


def _base64(data: bytes | None) -> str | None:
    return None if data is None else b64encode(data).decode()


def _letter_text(letter: DeadLetter) -> str:
    size = "no value" if letter.value is None else f"{letter.value_size:,} bytes"
    head = f"{iso(letter.log_time)}  {letter.reason.name:<15} {place_of(letter)}, key {_shown(letter.key)}, {size}"
    return "\n".join([head, f"  {letter.detail}", *([] if letter.value is None else [f"  {_shown(letter.value)}"])])


def _shown(data: bytes | None) -> str:
    """The beginning of some bytes: as text if they are text, else in hexadecimal digits."""
    if data is None:
        return "none"
    text = data[:_SHOWN_MAX].decode(errors="ignore")
    if not text.isprintable() or text.encode() != data[: len(text.encode())] or not text:
        text = data[: _SHOWN_MAX // 4].hex(" ")
        return f"{text} …" if len(data) > _SHOWN_MAX // 4 else text
    return f"{text} …" if len(data) > _SHOWN_MAX else text


def _number_of(decided: ArchivedDecision) -> tuple[int, int, int]:
    """What tells a decision from all others: timers have no offset."""
    return decided.at.partition, decided.at.sequence, decided.at.index


def _print_line(decided: ArchivedDecision, output: OutputForm) -> None:
    decision, at = decided
    if output is OutputForm.JSON:
        form = {**decision_form(decision), "decided_at": iso(at.decided_at), "input": input_form(decided)}
        typer.echo(json.dumps(form, ensure_ascii=False))
        return
    typer.echo(decision_line(decided))
