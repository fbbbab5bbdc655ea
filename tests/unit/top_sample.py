"""Gates that tell what a test says, through the real metrics; and the picture of `placet top` in the docs.

`python -m tests.unit.top_sample` draws docs/images/top.svg again.
"""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from prometheus_client import generate_latest
from rich.console import Console

from placet.cli.top.frame import Frame
from placet.cli.top.known import Answer
from placet.cli.top.samples import Numbers, parse
from placet.cli.top.view import render
from placet.cli.top.watch import Watch
from placet.definitions import load_definition
from placet.schemas.decision import Outcome, Reason
from placet.schemas.messages import Kind
from placet.streams.host import LocalHost
from placet.streams.settings import load_settings
from placet.streams.telemetry.log import configure_logs
from placet.streams.telemetry.metrics import Metrics

ROOT = Path(__file__).parents[2]
PICTURE = ROOT / "docs" / "images" / "top.svg"
FLIGHT = load_definition(ROOT / "placet" / "schemas" / "examples" / "flight.yaml")
NOON_S = 1_795_521_600.0
"""Some day in November 2026, 12:00 UTC."""

Counts = dict[tuple[Kind, Outcome, Reason], int]
FACT, PROPOSAL = Kind.SIGNAL, Kind.PROPOSAL
USUAL: Counts = {
    (FACT, Outcome.ACCEPTED, Reason.NONE): 812,
    (PROPOSAL, Outcome.ACCEPTED, Reason.NONE): 113,
    (PROPOSAL, Outcome.REFUSED, Reason.ILLEGAL_TRANSITION): 37,
    (PROPOSAL, Outcome.REFUSED, Reason.STALE): 21,
    (PROPOSAL, Outcome.REFUSED, Reason.GUARD_FAILED): 14,
    (PROPOSAL, Outcome.DUPLICATE, Reason.REPEATED): 13,
    (PROPOSAL, Outcome.REFUSED, Reason.EXPIRED): 2,
}


class TestGate:
    """A gate of a test: told what happened, scraped as text."""

    __test__ = False

    def __init__(self, name: str, *, app: str = "prod", started_s: float = NOON_S - 7_300, version: int = 1) -> None:
        configure_logs("error", io.StringIO())
        rules = FLIGHT.model_copy(update={"version": version})
        self.told = Metrics(LocalHost(), load_settings({"app": app, "instance": name}), [rules])
        self.started_s = started_s
        self.cpu_s = 0.0
        self.memory_bytes = 412 * 2**20

    def runs(self, *partitions: int, of: int = 4, **others: str) -> TestGate:
        """Say which tasks it has; `others` by their phases, such as flight_3="restoring"."""
        self.told.partitions("flight", of)
        phases = {f"flight-{partition}": "running" for partition in partitions}
        self.told.tasks(phases | {task.replace("_", "-"): phase for task, phase in others.items()})
        return self

    def decides(self, partition: int, counts: Counts, *, times: float = 1.0, latency_s: float = 0.12) -> None:
        """Say that a batch was committed."""
        scaled = Counter({key: round(count * times) for key, count in counts.items()})
        self.told.decided("flight", partition, scaled, latency_s)
        self.told.transaction("committed", latency_s / 4)

    def lags(self, **records: int) -> None:
        """Say how many inputs wait: signals_0=3."""
        keys = {name: name.rpartition("_") for name in records}
        app = self.told._settings.app
        self.told.lag({(f"{app}.flight.{keys[name][0]}", int(keys[name][2])): n for name, n in records.items()})

    def text(self) -> str:
        """Its scrape, with a process that a test knows."""
        ours = generate_latest(self.told.registry).decode().splitlines()
        return "\n".join([
            *(line for line in ours if "process_" not in line),
            f"process_start_time_seconds {self.started_s}",
            f"process_cpu_seconds_total {self.cpu_s}",
            f"process_resident_memory_bytes {self.memory_bytes}", "",
        ])  # fmt: skip

    def numbers(self) -> Numbers:
        return parse(self.text())


def look(watch: Watch, at_s: float, gates: dict[str, TestGate | str]) -> Frame:
    """Take a look at gates by endpoint; a text instead of a gate says why it does not answer."""
    answers: Iterable[Answer] = [
        Answer(endpoint, at_s, None, gate) if isinstance(gate, str) else Answer(endpoint, at_s, gate.numbers())
        for endpoint, gate in gates.items()
    ]
    return watch.look(answers, at_s, NOON_S + at_s)


def sample() -> Frame:
    """A minute in which one of three gates died: one takes over, one partition waits for nobody knows whom."""
    watch = Watch()
    endpoints = [f"http://10.0.0.{n}:9100/metrics" for n in (4, 5, 6)]
    one, two, three = (TestGate(f"gate-{n}") for n in range(3))
    one.runs(0, 1, of=6)
    two.runs(2, 3, of=6)
    three.runs(4, 5, of=6)
    gates: dict[str, TestGate | str] = dict(zip(endpoints, (one, two, three), strict=True))
    pace = (0.5, 0.8, 1.0, 1.1, 0.9, 1.2, 1.0, 0.7, 0.9, 1.1, 1.3, 1.2, 1.1, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.0)
    for step, times in enumerate(pace):
        at_s = step * 2.0
        for gate, partitions in ((one, (0, 1)), (two, (2, 3)), (three, (4, 5))):
            if gate is not three or step < 13:
                for partition in partitions:
                    gate.decides(partition, USUAL, times=times, latency_s=0.06 + 0.02 * partition)
            gate.cpu_s += 1.4 * times
        if step == 13:
            gates[endpoints[2]] = "connection refused"
        look(watch, at_s, gates)
    two.runs(2, 3, of=6, flight_4="restoring")
    two.told.restoring({"flight-4": (310_000, 190_000)})
    for partition in (0, 1, 2, 3):
        (one if partition < 2 else two).decides(partition, USUAL, times=1.05, latency_s=0.06 + 0.02 * partition)
    look(watch, 40.0, gates)
    for gate, partition, times in ((one, 0, 1.3), (one, 1, 0.9), (two, 2, 1.1), (two, 3, 1.2)):
        gate.decides(partition, USUAL, times=times, latency_s=0.06 + 0.02 * partition)
        gate.cpu_s += 0.8
    two.decides(3, {(FACT, Outcome.REFUSED, Reason.ILLEGAL_TRANSITION): 2}, latency_s=0.4)
    one.lags(signals_0=120, proposals_0=31, signals_1=64)
    two.lags(signals_2=80, signals_3=402, proposals_3=77)
    two.told.restoring({"flight-4": (420_000, 80_000)})
    return look(watch, 42.0, gates)


def drawn(frame: Frame, width: int, height: int | None = None, *, colour: bool = False) -> Console:
    """A console that recorded a frame."""
    console = Console(record=True, width=width, file=io.StringIO(), force_terminal=colour, highlight=False)
    console.print(render(frame, height))
    return console


def picture() -> str:
    """The frame as SVG, the same each time; without the fonts that rich would fetch from another host."""
    svg = drawn(sample(), 84, colour=True).export_svg(title="placet top", unique_id="top")
    return re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)


if __name__ == "__main__":
    PICTURE.parent.mkdir(exist_ok=True)
    PICTURE.write_text(picture())
