"""The public names as a user's type checker sees them: `mypy --strict` reads this file, nothing runs it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import assert_type

from placet import (
    AsyncClient,
    AsyncProposal,
    Client,
    Decision,
    DecisionTimeout,
    Definition,
    NoOccasion,
    Outcome,
    PlacetError,
    Proposal,
    Reason,
    Retry,
    Snapshot,
    load_definition,
)
from placet.schemas.messages import Value
from placet.testing import TestDriver

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


async def agent(client: AsyncClient) -> Decision:
    order = await client.read("order-7", at_least_version=1, timeout_s=5)
    assert_type(order, Snapshot)
    assert_type(order.fields, Mapping[str, Value])
    assert_type(client.would_accept(order, "hold"), Decision)
    proposal = client.propose(
        order,
        "hold",
        {"note": "fraud?", "amount": 5, "share": 0.5},
        dedup_key="case-12",
        valid_for=timedelta(seconds=30),
        rationale="it looks odd",
        model="m-1",
        metadata={"run": "7"},
    )
    assert_type(proposal, AsyncProposal)
    decision = await proposal.decision(timeout_s=30)
    assert_type(decision.outcome, Outcome)
    assert_type(decision.reason, Reason)
    assert_type(decision.retry, Retry)
    assert_type(decision.applied, bool)
    await client.signal("order-7", "opened", {"total": 5}, signal_id="s-1", event_time=1)
    await client.signal("order-7", "opened", {"at": NOON}, signal_id="s-2", event_time=NOON)
    async for batch in client.changes("sink"):
        for snapshot in batch:
            assert_type(snapshot, Snapshot)
        assert_type(await batch.commit(), bool)
    return decision


def script(path: Path) -> None:
    definition = load_definition(path)
    assert_type(definition, Definition)
    with Client(definition, app="shop", bootstrap_servers="localhost:9092", sender="script") as client:
        try:
            proposal = client.propose(client.read("order-7"), "hold", caused_by="s-1")
        except NoOccasion as error:
            assert_type(error, NoOccasion)
            problem: PlacetError = error
            print(problem)
            return
        assert_type(proposal, Proposal)
        try:
            assert_type(proposal.decision(), Decision)
        except DecisionTimeout as late:
            assert_type(late.input_id, str)
        for batch in client.changes("sink"):
            assert_type(batch.commit(), bool)


def tested(path: Path) -> None:
    driver = TestDriver.from_file(path)
    seen = driver.read("order-7")
    assert_type(driver.propose("order-7", "hold", {"note": "x"}, base=seen, dedup_key="k"), Decision)


Client("order").read(7)  # type: ignore[arg-type]
Client("order").signal("order-7", "opened", {})  # type: ignore[call-arg]
