"""What `placet verify` prints, and its exit codes; the check itself is in test_verify.py."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from placet.cli import verify as command
from placet.streams.records import TopicPartition
from placet.streams.topology import TaskId
from placet.verify.report import Check, Mismatch, Report, Since, TaskReport


def report(findings: int) -> Report:
    whole, later = TaskReport(TaskId("order", 0)), TaskReport(TaskId("order", 1), shown=2)
    whole.inputs = whole.decisions = 12_345
    later.since = Since(7, 1_767_225_600_000, "earlier decisions are deleted by retention")
    later.warnings.append("the group has no position of app.order.signals any more; the ledger's 9 counts")
    for offset in range(findings):
        later.find_at(Check.LOST, later_place(), offset, "no decision on this input")
    return Report([whole, later])


def later_place() -> TopicPartition:
    return TopicPartition("app.order.signals", 1)


def run(monkeypatch: pytest.MonkeyPatch, made: Report, *arguments: str) -> tuple[int, str]:
    monkeypatch.setattr(command, "_run", lambda *_: made)
    result = CliRunner().invoke(command.app, ["--app", "app", *arguments])
    return result.exit_code, result.stdout


def test_nothing_differs(monkeypatch: pytest.MonkeyPatch) -> None:
    code, text = run(monkeypatch, report(0))

    assert code == 0
    assert "12,345" in text
    assert "the beginning" in text
    assert "2026-01-01T00:00:00+00:00, transaction 7: earlier decisions are deleted by retention" in text
    assert "warning: order-1: the group has no position of app.order.signals any more" in text
    assert text.endswith("No difference.\n")


def test_the_first_difference_is_named_and_the_rest_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    code, text = run(monkeypatch, report(5))

    assert code == 1
    assert text.count("lost decision at app.order.signals partition 1 offset 1:") == 1
    assert "order-1: 3 more; in all: 5 lost decision" in text
    assert "5 differences. The first: lost decision at app.order.signals partition 1 offset 0: no decision" in text


def test_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    code, text = run(monkeypatch, report(5), "--output", "json")

    found = json.loads(text)
    assert code == 1
    assert found["differences"] == 5
    assert found["first"] == Mismatch(Check.LOST, *later_place(), 0, "no decision on this input")._asdict()
    assert found["tasks"][0]["since"] == {"sequence": 1, "log_time": 0, "why": ""}
    assert found["tasks"][1]["counts"] == {"lost decision": 5}
    assert len(found["tasks"][1]["findings"]) == 2


def test_wrong_usage(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(monkeypatch, report(0), "--findings", "0")[0] == 2
