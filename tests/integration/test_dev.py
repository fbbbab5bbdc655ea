"""`placet dev`: one command to a running gate, one Ctrl-C back to nothing."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path
from urllib.error import URLError

import pytest

from placet.devbroker.settings import free_port
from tests.integration.gates import wait_until

pytestmark = pytest.mark.kafka

DEFINITION = Path(__file__).with_name("order.yaml")


def phases(port: int) -> list[str]:
    """What `/readyz` shows of the tasks; nothing while it is not there."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer:
            return list(json.load(answer)["tasks"].values())
    except (URLError, OSError):
        return []


def test_dev_runs_a_gate_on_a_kafka_of_its_own_and_leaves_nothing(tmp_path: Path) -> None:
    port, left, log = free_port(), tmp_path / "tmp", tmp_path / "log"
    left.mkdir()
    command = [sys.executable, "-m", "placet.cli", "dev", str(DEFINITION), "--partitions", "2"]
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*command, "--metrics-port", str(port)],
            env={**os.environ, "TMPDIR": str(left)},
            stdout=out,
            stderr=out,
        )
    try:
        wait_until(lambda: phases(port) == ["running"] * 2 or process.poll() is not None, 120, "two tasks run")
        assert process.poll() is None, log.read_text()
        said = re.search(r"Kafka runs at 127\.0\.0\.1:(\d+)\.", log.read_text())
        assert said is not None
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0, log.read_text()
    finally:
        process.kill()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", int(said[1])), timeout=5)
    assert list(left.iterdir()) == []
