"""The shell against a real gate: the first ten minutes as the page tells them, and what the page leaves out."""

from __future__ import annotations

import io
import json
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from placet.cli import main
from placet.devbroker.broker import Broker
from tests.integration.gates import World

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(120)]

PAGE = Path(__file__).parents[2] / "docs" / "first-ten-minutes.md"
REFUND = Path(__file__).parents[2] / "placet" / "schemas" / "examples" / "refund.yaml"
ASKED = {"order_id": "o-9", "currency": "EUR", "paid_minor": 5000, "requested_minor": 2000, "reason": "broken"}

Placet = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def world(broker: Broker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with World(broker.bootstrap_servers, tmp_path_factory.mktemp("shell"), "shell", REFUND, partitions=2) as made:
        made.gate("a")
        yield made


@pytest.fixture
def placet(world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Placet:
    """Run `placet` in this process: exit code, stdout and stderr."""
    for name, value in world.environment(PLACET_DEFINITION=str(REFUND)).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["placet", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        code = ended.value.code
        assert code is None or isinstance(code, int)
        return code or 0, *capsys.readouterr()

    return run


def without_chance(text: str) -> str:
    """What differs from run to run, as the page writes it."""
    text = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", "<time>", text)
    text = re.sub(r"partition \d+ offset \d+", "partition <n> offset <n>", text)
    return text.replace("shell.refund.", "placet.refund.")


def test_the_first_ten_minutes_are_as_the_page_tells_them(placet: Placet) -> None:
    shown = "".join(re.findall(r"^```console\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE))
    steps = re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", shown, re.MULTILINE)
    assert len(steps) == 10
    for command, expected in steps:
        code, out, err = placet(*shlex.split(command)[1:])
        assert (without_chance(out), err) == (expected, ""), command
        assert code == (1 if expected.startswith("REFUSED") else 0), command


def test_everything_comes_as_json_too(placet: Placet, monkeypatch: pytest.MonkeyPatch) -> None:
    def of(*arguments: str, code: int = 0) -> Any:
        found, out, err = placet(*arguments, "--output", "json")
        assert (found, err) == (code, ""), out
        return json.loads(out)

    monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps(ASKED)))
    assert of("signal", "rf_2", "refund_requested", "-", "--id", "r-2")["durable"] is True
    assert (
        of("signal", "rf_2", "refund_requested", json.dumps(ASKED), "--id", "r-2", "--wait")["outcome"] == "DUPLICATE"
    )
    amount = json.dumps({"amount_minor": 9000})
    foreseen = of("propose", "rf_2", "approve", amount, "--dry-run", code=1)
    said = ("--rationale", "all of it", "--model", "m-1", "--metadata", "run=7", "--metadata", "by=test")
    refused = of("propose", "rf_2", "approve", amount, "--id", "q-1", "--wait", *said, code=1)
    assert foreseen["reason"] == refused["reason"] == "GUARD_FAILED"
    why = of("explain", "q-1")
    assert why["rung"]["number"] == 10
    assert why["said"] == {"rationale": "all of it", "model": "m-1", "metadata": {"run": "7", "by": "test"}}
    assert "payload.amount_minor <= state.requested_minor" in why["compared"][0]["found"]
    assert why["compared"][1:] == [
        {"what": "payload.amount_minor", "given": "9000", "found": ""},
        {"what": "state.requested_minor", "given": "", "found": "2000 at version 1"},
    ]
    assert of("explain", "r-2")["first"]["input_id"] == "r-2"
    state = of("state", "get", "rf_2")
    assert (state["status"], state["version"], state["fields"]["paid_minor"]) == ("requested", 1, 5000)
    assert of("state", "get", "rf_2", "--as-of", state["at"]) == state
    assert of("state", "get", "rf_2", "--at-version", "1") == state
    history = of("history", "rf_2")
    assert [step["version"] for step in history] == [1]
    assert history[0]["changes"]["status"] == {"before": "absent", "after": "requested"}
    monkeypatch.delenv("PLACET_DEFINITION")  # then the rules come from the log
    code, out, _ = placet("decisions", "tail", "--entity-id", "rf_2", "--output", "json")
    assert code == 0
    assert [json.loads(line)["outcome"] for line in out.splitlines()] == ["ACCEPTED", "DUPLICATE", "REFUSED"]
    assert of("state", "get", "rf_2", "--entity", "refund") == state


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("explain", "nothing"), 1, "There is no decision on nothing"),
        (("state", "get", "nobody"), 1, "nobody was never seen"),
        (("history", "nobody"), 1, "nobody was never seen"),
        (("state", "get", "nobody", "--at-version", "1"), 1, "nobody was never seen"),
        (("state", "get", "rf_2", "--at-version", "7"), 1, "rf_2 has no version 7: the latest is 1."),
        (
            ("state", "get", "rf_2", "--as-of", "2020-01-01T00:00:00Z"),
            1,
            "rf_2 was not there at 2020-01-01T00:00:00.000Z",
        ),
        (("state", "get", "rf_2", "--as-of", "5", "--at-version", "1"), 2, "give --at-version or --as-of, not both"),
        (("propose", "rf_3", "pay", "--metadata", "run"), 2, "write NAME=VALUE"),
        (
            ("signal", "rf_4", "refund_requested", json.dumps(ASKED), "--id", "r-4", "--wait", "--timeout", "0"),
            4,
            "no decision on `refund_requested` (r-4) of rf_4 within 0 s",
        ),
        (("propose", "rf_3", "pay", '{"payment_ref": 5}'), 2, "`payment_ref` is 5: expected string"),
        (("propose", "rf_3", "pay", "{"), 2, "no JSON"),
        (("propose", "rf_3", "sell", "--wait"), 2, "no proposal `sell`; it has approve, pay, reject"),
        (("signal", "rf_3", "order_corrected", "--id", "x", "--event-time", "noon"), 2, "'noon' is no time"),
        (("state", "get", "rf_3", "--entity", "parcel"), 3, "There is no topic shell.parcel.changelog"),
    ],
)
def test_what_is_wrong_is_said_with_its_exit_code(
    placet: Placet, arguments: tuple[str, ...], code: int, says: str
) -> None:
    found, _, err = placet(*arguments)
    assert found == code, err
    assert says in err


def test_decisions_are_followed_as_they_are_taken(placet: Placet, world: World) -> None:
    def ask(input_id: str) -> None:
        assert placet("signal", "rf_5", "refund_requested", json.dumps(ASKED), "--id", input_id, "--wait")[0] == 0

    ask("first")
    command = ["-m", "placet.cli", "decisions", "tail", "--follow", "--entity-id", "rf_5", "--output", "json"]
    with subprocess.Popen(
        [sys.executable, *command], env=world.environment(), stdout=subprocess.PIPE, text=True
    ) as tail:
        try:
            assert tail.stdout is not None
            assert json.loads(tail.stdout.readline())["outcome"] == "ACCEPTED"
            ask("second")
            assert json.loads(tail.stdout.readline())["first"]["input_id"] == "first"
            tail.send_signal(signal.SIGINT)
            assert tail.wait(30) == 130
        finally:
            tail.kill()
