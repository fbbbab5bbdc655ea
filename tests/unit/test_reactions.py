"""Each call that can fail has a reaction: none ends a gate with a traceback, and none is missing in the table."""

from __future__ import annotations

import inspect

import pytest

from ops.staged_failures import NEVER_FAIL, Row, staged
from placet.streams.kafka.clients import AdminCalls, ConsumerCalls, ProducerCalls
from placet.streams.state.disk import Disk
from placet.streams.state.store import StateStore

ROWS = staged()


@pytest.mark.parametrize("protocol", [ConsumerCalls, ProducerCalls, AdminCalls, StateStore, Disk])
def test_every_call_of_a_protocol_is_staged_or_said_never_to_fail(protocol: type) -> None:
    calls = {
        name
        for name, member in vars(protocol).items()
        if inspect.isfunction(member) and (not name.startswith("_") or name in ("__len__", "__exit__"))
    }
    known = {row.call for row in ROWS if row.protocol == protocol.__name__}
    never = {call for name, call in NEVER_FAIL if name == protocol.__name__}
    assert calls - known - never == set()
    assert (known | never) - calls == set()


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.by}: {row.call}")
def test_no_way_to_fail_ends_in_a_traceback(row: Row) -> None:
    assert {way: found for way, found in row.reactions.items() if found.startswith("!")} == {}


def reactions(by: str, call: str) -> dict[str, str]:
    [row] = [row for row in ROWS if (row.by, row.call) == (by, call)]
    return row.reactions


def test_what_is_unknown_after_a_commit_restores_and_what_is_another_gates_does_not() -> None:
    found = reactions("a transaction", "commit_transaction")
    assert found["no answer"] == "TransactionAborted"
    assert found["not a member"] == "TaskMigrated"
    assert found["fenced"] == "ProducerFenced"
    assert found["no right"] == "FatalError"
