"""A state folder that can't be used is told before the gate asks anything of Kafka."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from placet.cli.exit_codes import ExitCode
from placet.schemas.errors import SettingsError
from placet.streams.host import LocalHost
from placet.streams.state.state_dir import check_state_dir

DEFINITION = Path(__file__).parents[1] / "integration" / "order.yaml"


def test_a_folder_is_made_and_left_as_it_was(tmp_path: Path) -> None:
    check_state_dir(LocalHost(), tmp_path / "state" / "app")
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")] == ["state", "state/app"]


@pytest.mark.parametrize(("folder", "reason"), [("/proc/nope", "No such file"), ("/dev/null/state", "Not a directory")])
def test_a_gate_does_not_start_on_a_folder_that_can_not_be_used(folder: str, reason: str) -> None:
    """No broker is there: it would say so otherwise."""
    command = [sys.executable, "-m", "placet.cli", "run", "--definition", str(DEFINITION), "--state-dir", folder]
    environment = {**os.environ, "PLACET_KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == ExitCode.WRONG
    assert f"PLACET_STATE_DIR: no store can be made in {folder}" in done.stderr
    assert reason in done.stderr
    assert "Give --state-dir a folder that this user may write to" in done.stderr


def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SettingsError, match=f"{tmp_path}: No space left on device"):
        check_state_dir(LocalHost(), tmp_path)
