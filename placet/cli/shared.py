"""What the commands that touch entities share: their options, payloads as JSON, decisions in words."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from functools import wraps
from inspect import Parameter, Signature, signature
from typing import Annotated, Any, Final, NamedTuple

import typer
from pydantic import TypeAdapter, ValidationError

from placet.cli.options import App, BootstrapServers, Definitions, definitions_of, settings_from
from placet.cli.output import OutputForm, OutputOption
from placet.client.archive import ArchivedDecision, place_of, sole_entity
from placet.client.explain_text import detail_of, retry_of, todo_of
from placet.client.past import GONE, iso, shown
from placet.client.snapshot import Snapshot
from placet.schemas.decision import Decision, Outcome, Retry
from placet.schemas.definition.field_types import Field
from placet.schemas.definition.grammar import Duration
from placet.schemas.definition.model import Definition
from placet.schemas.errors import SettingsError
from placet.schemas.messages import Value
from placet.schemas.times import implausible
from placet.streams.settings import Settings

__all__ = [
    "RETRY_WORDS",
    "EntityId",
    "Payload",
    "Timeout",
    "Wait",
    "Where",
    "changes_form",
    "decision_form",
    "decision_line",
    "duration_of",
    "input_form",
    "moment_of",
    "of_entity",
    "payload_of",
    "print_decision",
    "print_json",
    "shown",
    "snapshot_form",
    "time_of",
]

EntityId = Annotated[str, typer.Argument(metavar="ENTITY_ID", help="Id of the entity.", show_default=False)]
Payload = Annotated[
    str, typer.Argument(metavar="PAYLOAD", help="JSON object; `-` reads it from stdin.", show_default=False)
]
Wait = Annotated[bool, typer.Option("--wait", help="Wait for the decision and print it.")]
Timeout = Annotated[float, typer.Option(min=0.0, help="How long to wait, in seconds.")]

RETRY_WORDS: Final = {
    Retry.NEVER: "no",
    Retry.RECOMPUTE: "yes, after reading and thinking again",
    Retry.LATER: "yes, later, as it is",
}
_INDENT: Final = 2
_DURATION: Final[TypeAdapter[int]] = TypeAdapter(Duration)


class Where(NamedTuple):
    """The entity type that a command is about, and how it prints. `wanted` is a definition, or the entity type's name;
    with a name the definition comes from the control topic.
    """

    settings: Settings
    wanted: Definition | str
    output: OutputForm


def of_entity(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of `_where`: it gets them as one argument, `where`."""
    shared = [p.replace(kind=Parameter.KEYWORD_ONLY) for p in signature(_where, eval_str=True).parameters.values()]
    own = [p for name, p in signature(command, eval_str=True).parameters.items() if name != "where"]

    @wraps(command)
    def run(**given: Any) -> None:
        where = _where(**{option.name: given.pop(option.name) for option in shared})
        command(where=where, **given)

    run.__signature__ = Signature([*own, *shared])  # type: ignore[attr-defined]  # what Typer makes options of
    return run


def _where(
    definition: Definitions = None,
    entity: Annotated[
        str | None,
        typer.Option(help="The entity type, if the app has several; its definition then comes from the log."),
    ] = None,
    app: App = None,
    bootstrap_servers: BootstrapServers = None,
    output: OutputOption = OutputForm.TEXT,
) -> Where:
    """Return the entity type and the output that command line and environment name.

    Raises:
        SettingsError: command line and environment do not say which entity type is meant.
    """
    logging.getLogger("placet").setLevel(logging.CRITICAL)  # the command says in one line what is wrong
    settings = settings_from(bootstrap_servers, definitions=definition, app=app)
    given = {found.entity: found for found in definitions_of(settings)} if settings.definitions else {}
    if entity is not None:
        return Where(settings, given.get(entity, entity), output)
    if len(given) > 1:
        raise SettingsError(f"Say which entity type: --entity {' or --entity '.join(given)}.")
    return Where(settings, next(iter(given.values()), None) or sole_entity(settings), output)


def payload_of(text: str, fields: Mapping[str, Field]) -> dict[str, Value]:
    """Return a payload as Python values: decimals exact, numbers for doubles as floats, ISO times as milliseconds.

    A value that does not fit its field stays unchanged, and the client then names the error.

    Raises:
        typer.BadParameter: the text is no JSON object.
    """
    source = sys.stdin.read() if text == "-" else text
    try:
        given = json.loads(source or "{}", parse_float=Decimal)
    except ValueError as error:
        raise typer.BadParameter(f"no JSON: {error}", param_hint="PAYLOAD") from None
    if not isinstance(given, dict):
        raise typer.BadParameter('write a JSON object, such as {"note": "fraud?"}', param_hint="PAYLOAD")
    return {name: _value(value, fields[name]) if name in fields else value for name, value in given.items()}


def _value(given: Any, field: Field) -> Any:
    if field.items is not None and isinstance(given, list):
        return [_scalar(item, field.items) for item in given]
    if field.values is not None and isinstance(given, dict):
        return {name: _scalar(item, field.values) for name, item in given.items()}
    return _scalar(given, field.type)


def _scalar(given: Any, kind: str) -> Any:
    if isinstance(given, bool) or given is None:
        return given
    try:
        match kind:
            case "double" if isinstance(given, int | Decimal):
                return float(given)
            case "decimal" if isinstance(given, int | str):
                return Decimal(given)
            case "timestamp" if isinstance(given, str):
                return _ms(_moment(given))  # a birthday may be before 2000
    except (InvalidOperation, OverflowError, typer.BadParameter):
        return given
    return float(given) if isinstance(given, Decimal) and kind != "decimal" else given


def time_of(text: str) -> int:
    """Return a time in ms since the epoch; see `moment_of`."""
    return _ms(moment_of(text))


def _ms(moment: int | datetime) -> int:
    return moment if isinstance(moment, int) else round(moment.timestamp() * 1000)


def moment_of(text: str) -> int | datetime:
    """Return a time. The text is milliseconds since the epoch, or ISO 8601 with an offset.

    Raises:
        typer.BadParameter: the text is neither, or hardly a number of milliseconds.
    """
    moment = _moment(text)
    if isinstance(moment, int) and (doubt := implausible(moment)):
        raise typer.BadParameter(f"{text} is no time: {doubt} write it as 1999-12-31T12:00:00Z")
    return moment


def _moment(text: str) -> int | datetime:
    if text.lstrip("-").isdigit():
        return int(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise typer.BadParameter(f"{text!r} is no time: write 2026-01-31T12:00:00Z, or milliseconds since the epoch")
    return moment


def duration_of(text: str | None) -> timedelta | None:
    """Return a duration written as in a definition, such as `90s`.

    Raises:
        typer.BadParameter: the text is no duration.
    """
    if text is None:
        return None
    try:
        return timedelta(milliseconds=_DURATION.validate_python(text))
    except ValidationError:
        raise typer.BadParameter(f"{text!r} is no duration: write 500ms, 90s, 5m, 24h or 7d") from None


def decision_form(decision: Decision) -> dict[str, Any]:
    """Return a decision for JSON."""
    first = decision.first
    return {
        "outcome": decision.outcome.name,
        "reason": decision.reason.name,
        "retry": retry_of(decision).name,
        "applied": decision.applied,
        "kind": decision.kind.name,
        "name": decision.name,
        "input_id": decision.input_id,
        "entity_id": decision.entity_id,
        "dedup_key": decision.dedup_key,
        "changed": decision.changed,
        "version_before": decision.version_before,
        "version_after": decision.version_after,
        "status_before": decision.status_before,
        "status_after": decision.status_after,
        "detail": decision.detail,
        "not_before": decision.not_before,
        "first": None if first is None else first._asdict(),
        "conflicts": [conflict._asdict() for conflict in decision.conflicts],
        "timer": None
        if decision.timer is None
        else {"incarnation": decision.timer.incarnation, "armed_by_version": decision.timer.armed},
    }


def print_decision(decision: Decision, output: OutputForm, *, dry_run: bool = False) -> None:
    """Print a decision, or what would be decided."""
    if output is OutputForm.JSON:
        print_json(decision_form(decision) | ({"dry_run": True} if dry_run else {}))
        return
    typer.echo(f"would be {_headline(decision)}" if dry_run else _headline(decision))
    if decision.detail:
        typer.echo(f"  {detail_of(decision)}")
    for conflict in decision.conflicts:
        typer.echo(f"  version {conflict.version} changed {', '.join(conflict.fields)}")
    if not decision.applied:
        typer.echo(f"  try again? {RETRY_WORDS[decision.retry]}. {todo_of(decision)}")
    if dry_run:
        typer.echo("  only the rules were evaluated, on the state of this moment; nothing was sent")


def _headline(decision: Decision) -> str:
    # Of an input that did not decode neither name nor id is known.
    said = f" ({decision.input_id})" if decision.input_id else ""
    what = f"{_what(decision)} of {decision.entity_id}{said}"
    if decision.first is not None and decision.applied:
        return f"DUPLICATE  {what}: applied before, by {decision.first.input_id} at version {decision.first.version}"
    if decision.applied:
        step = f"version {decision.version_after}, {decision.status_after}" if decision.changed else "nothing changed"
        return f"ACCEPTED  {what}: {step}"
    return f"{decision.outcome.name}  {decision.reason.name}  {what}"


def _what(decision: Decision) -> str:
    return decision.name or f"a {decision.kind.name.lower()}"


def snapshot_form(snapshot: Snapshot) -> dict[str, Any]:
    """Return a state for JSON."""
    change = snapshot.change
    return {
        "entity_id": snapshot.entity_id,
        "status": snapshot.status,
        "version": snapshot.version,
        "incarnation": snapshot.incarnation,
        "fields": dict(snapshot.fields),
        "forgotten": snapshot.forgotten,
        "cause": None
        if change is None
        else {"kind": change.kind.name, "name": change.name, "input_id": change.input_id},
        "who": None if change is None else change.proposer,
        "at": None if change is None else iso(change.decided_at),
    }


def changes_form(changes: Mapping[str, tuple[Any, Any]]) -> dict[str, dict[str, Any]]:
    """Return what a version changed for JSON; `before` is missing if it is no longer on the log."""
    return {
        name: {"after": after} if before is GONE else {"before": before, "after": after}
        for name, (before, after) in changes.items()
    }


def print_json(form: Any) -> None:
    """Print JSON; decimals as text, so that no digit is lost."""
    typer.echo(json.dumps(form, default=str, ensure_ascii=False, indent=_INDENT))


def decision_line(decided: ArchivedDecision) -> str:
    """Return a decision on one line."""
    decision, at = decided
    reason = "" if decision.outcome is Outcome.ACCEPTED else decision.reason.name
    what = f"{_what(decision)} of {decision.entity_id or 'no entity'}"
    if decision.timer is not None:
        what = f"timer {what}, armed by version {decision.timer.armed}"
    id_or_place = decision.input_id or place_of(at)
    return f"{iso(at.decided_at)}  {decision.outcome.name:<9} {reason:<18} {what} ({id_or_place})"


def input_form(decided: ArchivedDecision) -> dict[str, Any] | None:
    """Return where the input of a decision lies, for JSON; a timer has none."""
    at = decided.at
    if decided.decision.timer is not None:
        return None
    return {"topic": at.topic, "partition": at.partition, "offset": at.offset}
