"""Advisors against a real gate: they propose, die, are flooded and fail; the gate does not notice."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from placet.advisor import Advice, Advisor, Limits, Signal, Snapshot
from placet.client import Client
from placet.devbroker.broker import Broker
from placet.schemas.decision import Decision, Outcome
from placet.schemas.messages import Kind
from tests.integration.gates import World, wait_until

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(200)]

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "advisor.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)


@pytest.fixture
def world(broker: Broker, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[World]:
    app = re.sub("[^a-z0-9]+", "-", request.node.name.removeprefix("test_")).strip("-")[:60]
    with World(broker.bootstrap_servers, tmp_path, app, partitions=2) as made:
        made.gate("a")
        yield made


class Process:
    """An advisor's process."""

    made = 0

    def __init__(self, world: World, program: Path, **environment: str) -> None:
        self.log = world.folder / f"advisor-{Process.made}.log"
        Process.made += 1
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(
                [sys.executable, str(program)], env=world.environment(**environment), stdout=out, stderr=out
            )

    def counts(self) -> Counter[str]:
        """What it said last that it has counted."""
        lines = [line for line in self.log.read_text().splitlines() if line.startswith('{"') and "at_once" in line]
        return Counter(json.loads(lines[-1]) if lines else {})

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)

    def end(self) -> int:
        self.process.terminate()
        return self.process.wait(40)

    def memory_kib(self) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.findall(r"VmRSS:\s+(\d+)", status)[0])


@pytest.fixture
def started(world: World) -> Iterator[Any]:
    processes: list[Process] = []

    def start(program: Path = HERE / "advisor_that_notes.py", **environment: str) -> Process:
        processes.append(Process(world, program, **environment))
        return processes[-1]

    yield start
    for process in processes:
        if process.process.poll() is None:
            process.kill()


def proposed(world: World, by: str) -> list[Decision]:
    """What was decided on an advisor's proposals, everything else left out."""
    mine = {
        message.input_id
        for record in world.read(world.topics.proposals)
        if (message := world.codec.decode(Kind.PROPOSAL, record.value())).proposer == by
    }
    return [decision for decision, _ in world.decisions() if decision.input_id in mine]


def accepted(decisions: list[Decision]) -> Counter[tuple[str, str]]:
    return Counter((d.entity_id, d.dedup_key) for d in decisions if d.outcome is Outcome.ACCEPTED)


def abandon(world: World, entity: str, name: str, payload: dict[str, Any], signal_id: str) -> None:
    """Send a signal in a transaction that is aborted."""
    producer = Producer({"bootstrap.servers": world.bootstrap_servers, "transactional.id": f"{world.app}-abandons"})
    producer.init_transactions(10)
    producer.begin_transaction()
    value = world.signal_bytes(entity, name, payload, signal_id)
    producer.produce(world.topics.signals, value, entity.encode(), world.send_home(entity.encode()))
    producer.flush(10)
    producer.abort_transaction(10)


def test_the_pages_loop_is_fifteen_lines() -> None:
    loop = BLOCKS[0].partition('if __name__ == "__main__"')[0]
    assert len([line for line in loop.splitlines() if line]) <= 15


def test_the_pages_advisor_proposes_stops_and_goes_on_where_it_was(world: World, started: Any, tmp_path: Path) -> None:
    program = tmp_path / "fraud_watch.py"
    program.write_text(f"async def ask_the_model(order):\n    return f'looked at {{order.version}}'\n\n\n{BLOCKS[0]}")
    world.signal("o-large", "opened", {"total": 5_000}, "s-large")
    world.send(world.topics.signals, b"o-large", b"\xff" * 900_000)  # larger than what is fetched at once
    world.signal("o-small", "opened", {"total": 5}, "s-small")
    world.flush()
    first = started(program)
    wait_until(lambda: world.states().get("o-large", None) and world.states()["o-large"].status == "held", 60, "held")
    world.signal("o-small", "added", {"amount": 2_000}, "s-more")
    world.flush()
    wait_until(lambda: world.states()["o-small"].status == "held", 30, "the small one has become large")
    assert first.end() == 0, first.log.read_text()
    assert first.log.read_text().count("undecodable signal") == 1

    second = started(program)
    world.signal("o-third", "opened", {"total": 1_000}, "s-third")
    world.flush()
    wait_until(lambda: world.states().get("o-third", None) and world.states()["o-third"].status == "held", 60, "held")
    assert second.end() == 0
    change = {c.entity_id: c for c in world.changes()}["o-small"]
    assert (change.state.fields["note"], change.proposer) == ("looked at 2", "fraud-watch")
    assert change.dedup_key == "cause:s-more/hold"
    decisions = proposed(world, "fraud-watch")
    assert [d.outcome for d in decisions] == [Outcome.ACCEPTED] * 3, "what was over before the stop comes not again"
    world.decided()
    world.placet("verify")


def test_the_pages_second_advisor_proposes_by_itself(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(HERE)
    for name, value in world.environment().items():
        monkeypatch.setenv(name, value)
    names: dict[str, Any] = {}
    exec(compile(BLOCKS[1].replace("9_400", "0"), "docs/advisor.md", "exec"), names)
    abandon(world, "o-1", "added", {"amount": 1}, "s-never")
    with Client("order") as client:  # which compresses with lz4
        client.signal("o-1", "opened", {"total": 1}, signal_id="s-1")
        client.signal("o-1", "added", {"amount": 1}, signal_id="s-2")

    async def main() -> None:
        day_breaks = asyncio.Event()
        running = asyncio.create_task(names["main"](day_breaks))
        while not names["watch"].counts["answered"] and not running.done():  # noqa: ASYNC110 - counts have no event
            await asyncio.sleep(0.05)
        day_breaks.set()
        await running

    asyncio.run(main())
    assert dict(names["watch"].counts) == {"silent": 1, "answered": 1}, "what was aborted triggers nothing"
    assert [c.name for c in world.changes()] == ["opened", "added", "hold", "annotate"]


def test_advisors_killed_under_load_lose_no_occasion_and_apply_none_twice(world: World, started: Any) -> None:
    advisor = {"ADVISOR": "noter", "THINK_S": "0.02", "DROP": "wait", "LIMITS": json.dumps({"ceiling": 16})}
    asked: set[str] = set()

    def more(count: int) -> None:
        for n in range(len(asked), len(asked) + count):
            asked.add(f"opened-{n}")
            world.signal(f"o-{n}", "opened", {"total": n}, f"opened-{n}")
        world.flush()

    process = started(**advisor)
    for round_ in range(2):
        more(300)
        some = len(asked) - 300
        wait_until(lambda some=some: len(accepted(proposed(world, "noter"))) > some + 30, 60, "it proposes")
        process.kill()
        before = world.decisions_written()
        world.load(1_500, first=1_500 * round_, seed=round_)  # the gate goes on, with facts and others' proposals
        world.flush()
        wait_until(lambda before=before: world.decisions_written() >= before + 1_500, 30, "the gate decides")
        process = started(**advisor)
    everyone = {f"o-{n}": f"opened-{n}" for n in range(600)}
    wait_until(lambda: {entity for entity, _ in accepted(proposed(world, "noter"))} >= everyone.keys(), 90, "all")
    assert process.end() == 0, process.log.read_text()
    decisions = proposed(world, "noter")
    assert max(accepted(decisions).values()) == 1, "an occasion was applied twice"
    assert set(Counter(d.outcome for d in decisions)) <= {Outcome.ACCEPTED, Outcome.DUPLICATE, Outcome.REFUSED}
    notes = {entity: state.fields["note"] for entity, state in world.states().items() if entity.startswith("o-")}
    assert notes == everyone
    world.decided()
    world.placet("verify")


def test_two_of_a_name_share_the_work_and_one_takes_over(world: World, started: Any) -> None:
    advisor = {"THINK_S": "0.01", "ADVISOR": "pair", "DROP": "wait"}
    one = started(**advisor)
    world.signal("o-first", "opened", {"total": 1}, "s-first")
    world.flush()
    wait_until(lambda: accepted(proposed(world, "pair")), 60, "the first works")
    two = started(**advisor)
    sent = 0

    def both_work() -> bool:
        nonlocal sent
        for _ in range(10):
            sent += 1
            world.signal(f"o-{sent}", "opened", {"total": 1}, f"s-{sent}")
        world.flush()
        return two.counts()["answered"] > 0

    wait_until(both_work, 60, "both work")
    one.kill()
    wait_until(lambda: len(accepted(proposed(world, "pair"))) == sent + 1, 60, "the other takes over")
    assert two.end() == 0
    world.decided()
    world.placet("verify")


def test_a_flood_is_dropped_and_counted_and_the_gate_does_not_notice(world: World, started: Any) -> None:
    limits = json.dumps({"ceiling": 2, "queue": 4, "grace_s": 1})
    process = started(ADVISOR="slow", THINK_S="0.3", LIMITS=limits)
    sent = 0

    def flood(count: int) -> None:
        nonlocal sent
        for n in range(sent, sent + count):
            world.signal(f"o-{n}", "opened", {"total": n}, f"s-{n}")
        sent += count
        world.flush()
        wait_until(
            lambda: sum(process.counts()[name] for name in ("answered", "dropped_oldest")) >= sent - 10, 60, "read"
        )

    flood(2_000)
    memory_kib = process.memory_kib()
    flood(8_000)
    counts = process.counts()
    assert counts["at_once"] == 2
    assert counts["dropped_oldest"] > 9_000
    assert process.memory_kib() < memory_kib + 40_000, "what waits is bounded"
    assert process.end() == 0, process.log.read_text()
    decisions = world.decided()
    facts = Counter(d.outcome for d, _ in decisions if d.kind is Kind.SIGNAL)
    assert facts == {Outcome.ACCEPTED: 10_000}
    assert len(proposed(world, "slow")) < 200
    world.placet("verify")


def test_the_breaker_opens_while_the_model_fails_and_closes_when_it_is_back(world: World) -> None:
    limits = Limits(ceiling=2, failures=3, open_s=1.0)
    advisor = Advisor("order", name="frail", app=world.app, bootstrap_servers=world.bootstrap_servers, limits=limits)
    is_well = False
    calls = 0

    @advisor.on("opened")
    async def think(signal: Signal, _order: Snapshot) -> Advice:
        nonlocal calls
        calls += 1
        if not is_well:
            raise RuntimeError("the model is away")
        return Advice("annotate", {"note": signal.signal_id})

    async def reached(**counts: int) -> None:
        while any(advisor.counts[name] < count for name, count in counts.items()):  # noqa: ASYNC110 - no event
            await asyncio.sleep(0.02)

    async def main() -> None:
        nonlocal is_well
        serving = asyncio.create_task(advisor.serve())
        for n in range(30):
            world.signal(f"o-{n}", "opened", {"total": n}, f"s-{n}")
        world.flush()
        async with asyncio.timeout(60):
            await reached(breaker_opened=2)
            assert calls <= 3 + 1 + 2, "three failures and what ran beside them, then probes"
            is_well = True
            await reached(accepted=30 - advisor.counts["failed"] - 1)
            world.signal("o-last", "opened", {"total": 1}, "s-last")
            world.flush()
            await reached(accepted=31 - advisor.counts["failed"])
        advisor.stop()
        await serving

    asyncio.run(main())
    assert world.states()["o-last"].fields["note"] == "s-last"
    with Client("order", app=world.app, bootstrap_servers=world.bootstrap_servers) as client:
        assert client.signal_decided("o-0", "added", {"amount": 1}, signal_id="s-after").applied
