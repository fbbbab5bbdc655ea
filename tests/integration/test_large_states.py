"""How much memory a gate takes where states are large: what one transaction holds has an end."""

from __future__ import annotations

import shutil
from pathlib import Path
from random import Random

import pytest

from placet.devbroker.broker import Broker
from tests.integration.gates import Gate, World, wait_until

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]

DOC = """
entity: doc
version: 1
statuses: [open]
final: [open]
fields: {text: {type: string, default: ''}, n: {type: long, default: 0}}
signals:
  written: {payload: {text: string}, from: [absent, open], to: open, copy: text}
  counted: {payload: {by: long}, from: open, set: {n: state.n + payload.by}}
"""
STATE_BYTES = 200_000
SIGNALS = 2_500
MEMORY_MIB_MAX = 512


def peak_mib(gate: Gate) -> int:
    """The most that the process ever had in memory."""
    lines = Path(f"/proc/{gate.process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) >> 10 for line in lines if line.startswith("VmHWM"))


def test_many_small_signals_to_a_large_state_take_little_memory(broker: Broker, tmp_path: Path) -> None:
    """Each of them writes all of the state anew: half a gigabyte in sum."""
    definition = tmp_path / "doc.yaml"
    definition.write_text(DOC)
    with World(broker.bootstrap_servers, tmp_path, "large-states", definition, 1) as world:
        gate = world.gate("a")
        text = Random(1).randbytes(STATE_BYTES // 2).hex()
        world.signal("d", "written", {"text": text}, "w")
        world.flush()
        world.decided()
        assert gate.terminate() == 0
        for number in range(SIGNALS):
            world.signal("d", "counted", {"by": 1}, f"c-{number}")
        world.flush()
        gate = world.gate("a", attempt="deciding")
        world.decided(120)
        assert peak_mib(gate) <= MEMORY_MIB_MAX
        assert gate.events("transaction aborted") == []
        assert world.states()["d"].fields["n"] == SIGNALS
        assert max(commit.changes for commit in world.commits()[0]) < 100
        assert gate.terminate() == 0
        shutil.rmtree(tmp_path / "state")
        gate = world.gate("a", attempt="restoring")
        wait_until(lambda: gate.events("restored"), 60, "the changelog is read")
        assert peak_mib(gate) <= MEMORY_MIB_MAX
        world.placet("verify", "--definition", str(definition))
