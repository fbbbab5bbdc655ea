"""Gates whose disk fails them: bits that flip, folders that can't be used. What was committed is on the log."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from placet.cli.exit_codes import ExitCode
from placet.devbroker.broker import Broker
from tests.integration.gates import Gate, World, wait_until

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]

LAMP = """
entity: lamp
version: 1
statuses: [lit]
fields: {watts: {type: long, default: 5}, note: {type: string, default: ''}}
signals:
  changed: {payload: {watts: long, note: string}, from: [absent, lit], to: lit, copy: [watts, note]}
"""
LAMPS = 6_000


@pytest.fixture
def world(broker: Broker, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[World]:
    app = re.sub("[^a-z0-9]+", "-", request.node.name.removeprefix("test_")).strip("-")[:80]
    definition = tmp_path / "lamp.yaml"
    definition.write_text(LAMP)
    with World(broker.bootstrap_servers, tmp_path, app, definition, 2) as made:
        yield made


def change(world: World, lamps: range, watts: int, *, note_bytes: int = 150) -> None:
    """Change lamps; what is written in them can't be compressed."""
    random = Random(watts)
    for lamp in lamps:
        note = base64.b64encode(random.randbytes(note_bytes)).decode()
        world.signal(f"lamp-{lamp}", "changed", {"watts": watts, "note": note}, f"{watts}-{lamp}")
    world.flush()


def folder_of(world: World, partition: int) -> Path:
    return world.folder / "state" / "a" / world.app / "lamp" / str(partition)


def flip(world: World, partition: int) -> None:
    """Flip bits in all data of a store, in place, as a failing disk does."""
    files = [file for file in (folder_of(world, partition) / "db").glob("*.sst") if file.stat().st_size > 10_000]
    assert files, "nothing to damage"
    random = Random(partition)
    for file in files:
        data = bytearray(file.read_bytes())
        for _ in range(len(data) // 2_000):
            data[random.randrange(len(data) * 4 // 5)] ^= 1 << random.randrange(8)
        with file.open("r+b") as out:
            out.write(data)


def set_aside(gate: Gate) -> list[str]:
    """Which damaged folders it says that it has set aside."""
    return [Path(event["folder"]).name for event in gate.events("store damaged") if "Corruption" in event["why"]]


def test_flipped_bits_cost_one_restore_and_a_second_time_the_task(world: World) -> None:
    gate = world.gate("a")
    change(world, range(LAMPS), 1)
    world.decided()
    assert gate.terminate() == 0
    flip(world, 0)
    # Each time others, whose blocks were not read before: what is in the cache is not damaged.
    some, others, rest = (range(begin, begin + LAMPS // 3, 5) for begin in range(0, LAMPS, LAMPS // 3))
    gate = world.gate("a", attempt="flipped-while-it-was-away")
    change(world, some, 2)
    world.decided(60)
    assert set_aside(gate) == ["0.aside"]
    assert (folder_of(world, 0).with_name("0.aside") / "db").is_dir()
    flip(world, 1)  # under the running gate
    change(world, others, 3)
    world.decided(60)
    assert set_aside(gate) == ["0.aside", "1.aside"]
    assert gate.events("task stopped") == []
    flip(world, 0)  # what has just been made anew
    change(world, rest, 4)
    [stopped] = wait_until(lambda: gate.events("task stopped"), 60, "the task stops")
    assert "lamp-0: its store is damaged again" in stopped["why"]
    ends = {key: end for key, end in world.ends(world.topics.inputs).items() if key[1] == 1}
    wait_until(lambda: ends.items() <= world.committed().items(), 60, "the other partition goes on")
    assert set_aside(gate) == ["0.aside", "1.aside"]
    assert gate.terminate() == 0
    gate = world.gate("a", attempt="again")
    world.decided(60)
    assert set_aside(gate) == ["0.aside"]
    assert gate.terminate() == 0
    assert "Traceback" not in "".join(log.read_text() for log in world.folder.glob("a*.log"))
    assert {state.fields["watts"] for state in world.states().values()} == {1, 2, 3, 4}
    world.placet("verify", "--definition", str(world.file))


def test_damage_that_a_compaction_meets_costs_one_restore(world: World) -> None:
    """No one reads what is damaged; files are merged in the background, and then no write is taken any more."""
    gate = world.gate("a")
    change(world, range(LAMPS), 1)
    world.decided()
    assert gate.terminate() == 0
    flip(world, 0)
    for turn in range(2, 9):  # each leaves a file behind; four of them are merged
        gate = world.gate("a", attempt=turn)
        change(world, range(turn * LAMPS, turn * LAMPS + 300), turn, note_bytes=2_000)
        world.decided(60)
        assert gate.process.poll() is None
        assert gate.terminate() == 0
        if set_aside(gate):
            break
    assert set_aside(gate) == ["0.aside"]
    assert "Traceback" not in "".join(log.read_text() for log in world.folder.glob("a*.log"))


def test_a_gate_whose_state_folder_can_not_be_used_does_not_join(world: World) -> None:
    (world.folder / "state").mkdir()
    (world.folder / "state" / "a").write_text("not a folder")
    gate = world.gate("a")
    assert gate.process.wait(60) == ExitCode.WRONG
    assert f"no store can be made in {world.folder}/state/a/{world.app}" in gate.text()
    world.gate("b")
    change(world, range(100), 1)
    world.decided(20)


def test_a_gate_that_can_make_no_store_ends_and_another_takes_over(world: World) -> None:
    """Found out once it has its partitions: it must not sit on them."""
    (world.folder / "state" / "a" / world.app).mkdir(parents=True)
    (world.folder / "state" / "a" / world.app / "lamp").write_text("not a folder")
    gate = world.gate("a")
    change(world, range(100), 1)
    assert gate.process.wait(60) == ExitCode.STOPPED
    assert f"{world.app}/lamp/0 can't be written" in gate.text()
    assert "others take over" in gate.text()
    world.gate("b")
    world.decided(60)
