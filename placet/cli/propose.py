"""`placet propose`: propose a change, as an agent would."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer
from msgspec import structs

from placet.cli.exit_codes import ExitCode
from placet.cli.output import OutputForm
from placet.cli.shared import (
    EntityId,
    Payload,
    Timeout,
    Wait,
    Where,
    duration_of,
    moment_of,
    of_entity,
    payload_of,
    print_decision,
    print_json,
)
from placet.client.errors import NoOccasion
from placet.client.snapshot import Snapshot
from placet.client.sync import Client
from placet.schemas.decision import Decision
from placet.schemas.times import time_ms

__all__ = ["app"]

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command("propose")
@of_entity
def propose(
    entity_id: EntityId,
    name: Annotated[str, typer.Argument(help="One of the definition's proposals.", show_default=False)],
    payload: Payload = "{}",
    base_version: Annotated[
        int | None, typer.Option(min=0, help="The version that you read.  [the current one]")
    ] = None,
    read_at: Annotated[
        str | None,
        typer.Option(help="When you read it, where `max_state_age` asks: ISO 8601 or ms.  [now; unknown with a base]"),
    ] = None,
    dedup_key: Annotated[str | None, typer.Option(help="Names the occasion; a retry has the same.")] = None,
    caused_by: Annotated[
        str | None, typer.Option(help="Id of the signal or task that led to it; also names the occasion.")
    ] = None,
    proposal_id: Annotated[str | None, typer.Option("--id", help="The proposal's id.  [a new UUID]")] = None,
    valid_for: Annotated[str | None, typer.Option(help="The gate refuses it after this time, such as 90s.")] = None,
    rationale: Annotated[str | None, typer.Option(help="Why, for people.")] = None,
    model: Annotated[str | None, typer.Option(help="Name of the model that made it, for people.")] = None,
    metadata: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="Anything else, for people; may be repeated.")
    ] = None,
    proposer: Annotated[str, typer.Option(help="Who proposes.")] = "shell",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only evaluate the rules on the current state; send nothing.")
    ] = False,
    wait: Wait = False,
    timeout: Timeout = 30.0,
    *,
    where: Where,
) -> None:
    """Propose a change of the state that you read. Ends when all replicas in sync have it; with --wait, when the gate
    has decided.

    Needs --dedup-key or --caused-by if the definition computes no key: otherwise a repeat could be applied twice.

    Exit code: 0 durable (with --wait: applied), 1 (with --wait or --dry-run) refused, 2 the command line or the
    payload is wrong, 3 wrong settings or topics, 4 no broker answered, or no decision came in time.

    Example:  placet propose order-7 hold '{"note": "fraud?"}' --base-version 1 --dedup-key case-12 --wait
    """
    with Client(where.wanted, settings=where.settings, sender=proposer, connect_timeout_s=timeout) as client:
        rule = client.definition.proposals.get(name)
        values = payload_of(payload, rule.payload if rule else {})
        seen = _based_on(client.read(entity_id, timeout_s=timeout), base_version, read_at)
        if dry_run:
            foreseen = replace(client.would_accept(seen, name, values), input_id=proposal_id or "", dedup_key="")
            raise typer.Exit(_answer(foreseen, where.output, dry_run=True))
        try:
            proposal = client.propose(
                seen, name, values, dedup_key=dedup_key, caused_by=caused_by, proposal_id=proposal_id,
                valid_for=duration_of(valid_for), rationale=rationale, model=model,
                metadata=_pairs(metadata or []),
            )  # fmt: skip
        except NoOccasion:
            raise NoOccasion(name, "--dedup-key", "--caused-by") from None
        if wait:
            raise typer.Exit(_answer(proposal.decision(timeout), where.output))
        proposal.durable(timeout)
    if where.output is OutputForm.JSON:
        print_json({"entity_id": entity_id, "name": name, "proposal_id": proposal.proposal_id, "durable": True})
    else:
        typer.echo(f"durable  {name} of {entity_id} ({proposal.proposal_id})")


def _pairs(written: list[str]) -> dict[str, str]:
    pairs = [text.partition("=") for text in written]
    wrong = next((text for text, (name, equals, _) in zip(written, pairs, strict=True) if not (name and equals)), None)
    if wrong is not None:
        raise typer.BadParameter(f"{wrong!r}: write NAME=VALUE", param_hint="--metadata")
    return {name: value for name, _, value in pairs}


def _based_on(newest: Snapshot, version: int | None, read_at: str | None) -> Snapshot:
    """Return the state that was read: of another version, a proposal carries the version and not the fields.

    When a state was read that is named by its version, only the caller knows.
    """
    read_ms = newest.read_at if version is None else None
    if read_at is not None:
        read_ms = time_ms("read_at", moment_of(read_at), "the proposal")
    if version is None or version == newest.version:
        return structs.replace(newest, read_at=read_ms)
    return Snapshot(newest.entity_id, replace(newest.state, version=version), read_at=read_ms)


def _answer(decision: Decision, output: OutputForm, *, dry_run: bool = False) -> ExitCode:
    print_decision(decision, output, dry_run=dry_run)
    return ExitCode.OK if decision.applied else ExitCode.DIFFERENCE
