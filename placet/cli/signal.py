"""`placet signal`: report a fact."""

from __future__ import annotations

from typing import Annotated

import typer

from placet.cli.exit_codes import ExitCode
from placet.cli.output import OutputForm
from placet.cli.shared import (
    EntityId,
    Payload,
    Timeout,
    Wait,
    Where,
    moment_of,
    of_entity,
    payload_of,
    print_decision,
    print_json,
)
from placet.client.sync import Client

__all__ = ["app"]

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command("signal")
@of_entity
def signal(
    entity_id: EntityId,
    name: Annotated[str, typer.Argument(help="One of the definition's signals.", show_default=False)],
    payload: Payload = "{}",
    *,
    signal_id: Annotated[str, typer.Option("--id", help="Names the fact; every retry has the same.")],
    event_time: Annotated[str | None, typer.Option(help="When the fact happened: ISO 8601 or ms.  [now]")] = None,
    caused_by: Annotated[str | None, typer.Option(help="Id of the signal or task that led to it.")] = None,
    source: Annotated[str, typer.Option(help="Where the fact comes from.")] = "shell",
    wait: Wait = False,
    timeout: Timeout = 30.0,
    where: Where,
) -> None:
    """Report a fact. Ends when all replicas in sync have it; with --wait, when the gate has decided on it.

    Times in a payload are ISO 8601 or milliseconds; decimals are numbers or text.

    Exit code: 0 durable (with --wait: applied), 1 (with --wait) refused, 2 the command line or the payload is wrong, 3
    wrong settings or topics, 4 no broker answered, or no decision came in time.

    Example:  placet signal order-7 opened '{"total": 5}' --id payment-1 --wait
    """
    with Client(where.wanted, settings=where.settings, sender=source, connect_timeout_s=timeout) as client:
        rule = client.definition.signals.get(name)
        values = payload_of(payload, rule.payload if rule else {})
        happened_at = None if event_time is None else moment_of(event_time)
        if wait:
            decision = client.signal_decided(
                entity_id, name, values, signal_id=signal_id, event_time=happened_at, caused_by=caused_by,
                timeout_s=timeout,
            )  # fmt: skip
            print_decision(decision, where.output)
            raise typer.Exit(ExitCode.OK if decision.applied else ExitCode.DIFFERENCE)
        client.signal(
            entity_id, name, values, signal_id=signal_id, event_time=happened_at, caused_by=caused_by, timeout_s=timeout
        )
    if where.output is OutputForm.JSON:
        print_json({"entity_id": entity_id, "name": name, "signal_id": signal_id, "durable": True})
    else:
        typer.echo(f"durable  {name} of {entity_id} ({signal_id})")
