"""The command line: what it lists, what it refuses with which exit code, which setting wins. Nothing needs Kafka."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import MagicMock

import pytest

from placet.cli import COMMANDS, exit_codes, main
from placet.cli import doctor as doctor_command
from placet.cli import run as run_command
from placet.cli import topics as topics_command
from placet.cli.exit_codes import MEANINGS, ExitCode, exit_code_of
from placet.client import Client
from placet.client import errors as client_errors
from placet.schemas import errors as first_errors
from placet.schemas.definition.model import Definition
from placet.schemas.errors import DecodeError, DefinitionError, SettingsError
from placet.streams import errors as loop_errors
from placet.streams.errors import ClockSkew, FatalError
from placet.streams.kafka import admin as admin_errors
from placet.streams.kafka import schema_registry as registry_errors
from placet.streams.kafka.admin import Admin, BrokerUnreachable
from placet.streams.settings import Settings
from placet.streams.telemetry.build import installed_version, kind_of_build

LAMP = """
entity: lamp
version: 1
statuses: [dark]
signals: {made: {from: absent, to: dark}}
"""
OURS = [("run",), ("dev",), ("doctor",), ("topics", "plan"), ("topics", "apply")]

Placet = Callable[..., tuple[int, str, str]]


@pytest.fixture
def placet(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Placet:
    """Run `placet` in this process and return exit code, stdout and stderr. Its settings come from the test alone."""
    for name in os.environ:
        if name.startswith(("PLACET_", "KAFKA_", "SCHEMA_REGISTRY_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PLACET_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    for command in (topics_command, doctor_command):
        monkeypatch.setattr(command, "Admin", partial(Admin, timeout_s=0.3))
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)  # `main` sets its own

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["placet", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        code = ended.value.code
        assert code is None or isinstance(code, int)
        return code or 0, *capsys.readouterr()

    return run


@pytest.fixture
def lamp(tmp_path: Path) -> str:
    file = tmp_path / "lamp.yaml"
    file.write_text(LAMP)
    return str(file)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Settings, Sequence[Definition]]]:
    """What `placet run` would run with; nothing is run."""
    ran: list[tuple[Settings, Sequence[Definition]]] = []

    def note(settings: Settings, definitions: Sequence[Definition]) -> int:
        ran.append((settings, definitions))
        return 0

    monkeypatch.setattr(run_command.gate, "run", note)
    return ran


# -- help ------------------------------------------------------------------------------------------------------------


def test_help_lists_every_command(placet: Placet) -> None:
    code, out, _ = placet("--help")
    assert code == 0
    for name, command in COMMANDS.items():
        assert f"  {name} " in out
        assert command.help.split()[0] in out


def test_help_loads_nothing_heavy() -> None:
    program = (
        "import sys, placet.cli\n"
        "sys.argv = ['placet', '--help']\n"
        "try: placet.cli.main()\n"
        "finally: print(sorted({'confluent_kafka', 'rocksdict', 'fastavro', 'pydantic', 'rich'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("command", OURS, ids=" ".join)
def test_every_command_has_an_example_and_its_exit_codes(placet: Placet, command: tuple[str, ...]) -> None:
    code, out, _ = placet(*command, "--help")
    assert code == 0
    assert f"Example:  placet {' '.join(command)}" in out
    assert "Exit code: " in out


def test_without_a_command_the_help_is_shown_as_a_usage_error(placet: Placet) -> None:
    assert placet()[0] == ExitCode.USAGE


def test_a_misspelt_command_is_met_with_the_right_one(placet: Placet) -> None:
    code, _, err = placet("topic")
    assert code == ExitCode.USAGE
    assert "Did you mean 'topics'" in err


def test_the_version_is_shown(placet: Placet) -> None:
    code, out, _ = placet("--version")
    assert (code, out) == (0, f"placet {installed_version()} ({kind_of_build()})\n")


def test_it_runs_as_a_module_too() -> None:
    command = [sys.executable, "-m", "placet.cli", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.startswith("Usage: placet ")


# -- exit codes ------------------------------------------------------------------------------------------------------


def test_every_exit_code_has_a_meaning() -> None:
    assert set(MEANINGS) == set(ExitCode)


def test_every_error_with_an_exit_code_exists() -> None:
    modules: list[ModuleType] = [first_errors, loop_errors, admin_errors, client_errors, registry_errors]
    for name in exit_codes._BY_ERROR:
        assert any(hasattr(module, name) for module in modules), name


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (SettingsError("x"), ExitCode.WRONG),
        (DefinitionError("x"), ExitCode.WRONG),
        (BrokerUnreachable("x"), ExitCode.UNREACHABLE),
        (ClockSkew("x"), ExitCode.STOPPED),
        (FatalError("x"), ExitCode.STOPPED),
        (DecodeError("x"), ExitCode.STOPPED),
        (ValueError("x"), ExitCode.BROKEN),
    ],
    ids=lambda it: type(it).__name__,
)
def test_an_error_ends_with_the_code_of_its_reaction(error: Exception, code: ExitCode) -> None:
    assert exit_code_of(error) is code


@pytest.mark.parametrize("command", [("run",), ("topics", "plan"), ("topics", "apply")], ids=" ".join)
def test_without_a_definition_nothing_starts(placet: Placet, command: tuple[str, ...]) -> None:
    code, out, err = placet(*command)
    assert (code, out) == (ExitCode.WRONG, "")
    assert err == "placet: No definition is given: use --definition FILE or PLACET_DEFINITIONS.\n"


def test_a_wrong_definition_is_named_with_line_and_fix(placet: Placet, tmp_path: Path) -> None:
    file = tmp_path / "wrong.yaml"
    file.write_text(LAMP.replace("to: dark", "to: darkk"))
    code, _, err = placet("topics", "plan", "-d", str(file))
    assert code == ExitCode.WRONG
    assert err.startswith(f"placet: {file}:5: ")
    assert "fix: " in err


def test_two_definitions_of_one_entity_type_are_refused(placet: Placet, lamp: str) -> None:
    code, _, err = placet("topics", "plan", "-d", lamp, "-d", lamp)
    assert code == ExitCode.WRONG
    assert "is a second definition of `lamp`" in err


def test_a_wrong_setting_is_named_by_its_variable(placet: Placet, lamp: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLACET_KAFKA__OPTIONS", '{"acks": "1"}')
    code, _, err = placet("run", "-d", lamp)
    assert code == ExitCode.WRONG
    assert err.startswith("placet: PLACET_KAFKA__OPTIONS: `acks` is not for you to set: transactions need ")


def test_an_option_that_librdkafka_does_not_know_is_refused(
    placet: Placet, lamp: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLACET_KAFKA__OPTIONS__NO_SUCH_THING", "1")
    code, _, err = placet("topics", "plan", "-d", lamp)
    assert code == ExitCode.WRONG
    assert 'No such configuration property: "no.such.thing"' in err


@pytest.mark.parametrize("command", [("topics", "plan"), ("topics", "apply"), ("topics", "apply", "--dry-run")])
def test_a_broker_that_does_not_answer_is_named_with_what_was_seen(
    placet: Placet, lamp: str, command: tuple[str, ...]
) -> None:
    code, out, err = placet(*command, "-d", lamp, "--bootstrap-servers", "127.0.0.1:2")
    assert (code, out) == (ExitCode.UNREACHABLE, "")
    assert "No Kafka broker answered at 127.0.0.1:2 within 0.3 s" in err
    assert "Connection refused" in err
    assert "is the address right (--bootstrap-servers or KAFKA_BOOTSTRAP_SERVERS)?" in err
    assert len(err.splitlines()) == 1, "librdkafka's own lines stay away"


def test_a_bug_shows_its_traceback_without_locals_and_ends_with_70(
    placet: Placet, lamp: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(**_: Any) -> None:
        password = ["hush"]
        password.remove("what happened")

    monkeypatch.setattr(topics_command, "settings_from", broken)
    monkeypatch.setattr(sys, "argv", ["placet", "topics", "plan"])
    with pytest.raises(TypeError) as bug:
        main()
    with pytest.raises(SystemExit) as ended:
        sys.excepthook(bug.type, bug.value, bug.tb)
    assert ended.value.code == ExitCode.BROKEN
    err = capsys.readouterr().err
    assert "broken() takes 0 positional arguments" in err
    assert "hush" not in err
    assert "this is a bug" in err


# -- doctor without a broker -----------------------------------------------------------------------------------------


def test_doctor_checks_what_it_can_without_a_broker(placet: Placet, lamp: str) -> None:
    code, out, _ = placet("doctor", "-d", lamp, "--output", "json")
    checks = {check["name"]: check for check in json.loads(out)}
    assert code == ExitCode.DIFFERENCE
    assert [name for name, check in checks.items() if check["status"] == "ok"] == [
        "python",
        "settings",
        "definitions",
        "state dir",
        "registry",
    ]
    assert checks["brokers"]["status"] == "fail"
    assert "127.0.0.1:1" in checks["brokers"]["found"]
    assert "lamp v1" in checks["definitions"]["found"]


def test_doctor_finds_a_registry_that_is_not_there_and_a_misspelt_setting(
    placet: Placet, lamp: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLACET_REGISTRY__URL", "http://127.0.0.1:1")
    monkeypatch.setenv("PLACET_STATICC", "1")
    _, out, err = placet("doctor", "-d", lamp, "--output", "json")
    assert err == "", "the table says it"
    checks = {check["name"]: check for check in json.loads(out)}
    assert checks["registry"]["status"] == "fail"
    assert "Connection refused" in checks["registry"]["found"]
    assert (checks["settings"]["status"], checks["settings"]["found"]) == (
        "warn",
        "not settings: PLACET_STATICC (meant is PLACET_STATIC?)",
    )


def test_doctor_finds_a_state_dir_that_can_not_be(
    placet: Placet, lamp: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLACET_STATE_DIR", f"{lamp}/state")
    _, out, _ = placet("doctor", "-d", lamp, "--output", "json")
    (check,) = [check for check in json.loads(out) if check["name"] == "state dir"]
    assert (check["status"], check["found"]) == ("fail", f"{lamp}/state: Not a directory")


def test_doctor_prints_a_table_for_people(placet: Placet, lamp: str) -> None:
    _, out, _ = placet("doctor", "-d", lamp)
    assert out.split()[:3] == ["check", "found", "what"]
    assert "lamp v1" in out


def test_a_misspelt_variable_is_not_ignored_in_silence(
    placet: Placet,
    lamp: str,
    gate: list[tuple[Settings, Sequence[Definition]]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    sentence = "PLACET_BATCH_RECORD_MAX is no setting, and is ignored: is PLACET_BATCH_RECORDS_MAX meant?"
    monkeypatch.setenv("PLACET_BATCH_RECORD_MAX", "10")
    monkeypatch.setenv("PLACET_SERVICE_HOST", "of Kubernetes")
    _, _, err = placet("topics", "plan", "-d", lamp, "--bootstrap-servers", "127.0.0.1:2")
    assert err.splitlines()[0] == f"placet: {sentence}"
    code, _, err = placet("run", "-d", lamp)
    [line] = map(json.loads, err.splitlines())
    assert (code, len(gate), line["level"], line["reason"]) == (0, 1, "warning", sentence)
    caplog.set_level("WARNING", "placet")  # commands quiet it
    Client("lamp")
    assert [record.getMessage() for record in caplog.records if record.name == "placet.client"] == [sentence]


# -- run -------------------------------------------------------------------------------------------------------------


def test_run_takes_the_command_line_over_the_environment_over_the_defaults(
    placet: Placet, lamp: str, gate: list[tuple[Settings, Sequence[Definition]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"APP": "e", "INSTANCE": "e", "METRICS_PORT": "1", "DEFINITION": "/nowhere"}.items():
        monkeypatch.setenv(f"PLACET_{name}", value)
    code, _, _ = placet("run", "-d", lamp, "--app", "a", "--static", "--metrics-port", "0", "--log-level", "warning")
    ((settings, definitions),) = gate
    assert code == 0
    assert (settings.app, settings.instance, settings.metrics_port, settings.static) == ("a", "e", 0, True)
    assert (settings.kafka.bootstrap_servers, settings.log_level) == ("127.0.0.1:1", "warning")
    assert [definition.entity for definition in definitions] == ["lamp"]


def test_run_takes_everything_from_the_environment(
    placet: Placet, lamp: str, gate: list[tuple[Settings, Sequence[Definition]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"APP": "e", "INSTANCE": "i", "STATIC": "1", "DEFINITIONS": lamp, "STATE_DIR": "/e"}.items():
        monkeypatch.setenv(f"PLACET_{name}", value)
    assert placet("run")[0] == 0
    ((settings, _),) = gate
    assert (settings.app, settings.instance, settings.static, settings.state_dir) == ("e", "i", True, Path("/e"))


def test_a_static_gate_without_a_name_is_refused(
    placet: Placet, lamp: str, gate: list[tuple[Settings, Sequence[Definition]]]
) -> None:
    code, _, err = placet("run", "-d", lamp, "--static")
    assert code == ExitCode.WRONG
    assert "PLACET_STATIC needs PLACET_INSTANCE" in err
    assert gate == []


def test_what_stops_the_gate_is_one_sentence_and_its_code(
    placet: Placet, lamp: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def skewed(*_: object) -> int:
        raise ClockSkew("this machine's clock is 9000 ms off the broker's")

    monkeypatch.setattr(run_command.gate, "run", skewed)
    code, _, err = placet("run", "-d", lamp)
    assert (code, err) == (ExitCode.STOPPED, "placet: this machine's clock is 9000 ms off the broker's\n")


def test_run_refuses_python_without_assertions(lamp: str) -> None:
    command = [sys.executable, "-O", "-m", "placet.cli", "run", "-d", lamp]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == ExitCode.WRONG
    assert done.stderr.startswith("placet: Python runs with -O, without assertions: the gate needs them.")


def test_dev_says_that_its_kafka_ends_with_a_gate_that_ends_and_why(
    placet: Placet, lamp: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def taken(*_: object) -> int:
        raise SettingsError('another gate is called "twin" (host 10.0.0.5).')

    broker = MagicMock(bootstrap_servers="127.0.0.1:1")
    monkeypatch.setattr(run_command, "Broker", lambda **_: broker)
    monkeypatch.setattr(run_command, "Admin", MagicMock())
    monkeypatch.setattr(run_command, "apply", lambda *_: None)
    monkeypatch.setattr(run_command.gate, "run", taken)
    code, _, err = placet("dev", lamp)
    assert code == ExitCode.WRONG
    assert err.splitlines() == [
        "The gate ends, for the reason below; its Kafka ends with it.",
        'placet: another gate is called "twin" (host 10.0.0.5).',
    ]
    broker.close.assert_called_once()


def test_dev_says_what_is_wrong_before_it_starts_a_broker(placet: Placet, tmp_path: Path) -> None:
    file = tmp_path / "wrong.yaml"
    file.write_text(LAMP.replace("version: 1", "version: one"))
    code, _, err = placet("dev", str(file))
    assert code == ExitCode.WRONG
    assert err.startswith(f"placet: {file}:3: version: ")


def test_a_crash_of_a_native_library_tells_where_it_was() -> None:
    crash = "lambda app: lambda **_: os.kill(os.getpid(), signal.SIGSEGV)"
    code = f"import os, signal, typer.main, placet.cli; typer.main.get_command = {crash}; placet.cli.main()"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.returncode == -signal.SIGSEGV
    assert "Fatal Python error: Segmentation fault" in ended.stderr
