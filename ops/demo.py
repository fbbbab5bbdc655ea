"""A minute with Placet: real flights as facts, a simple advisor's proposals, two gates that decide; then verified.

Everything is real: an Apache Kafka in a temporary folder, `placet run` twice, the definition flight.yaml. Nothing is
left behind, however it ends.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, Producer, TopicPartition
from demo_advisor import Advisor
from demo_flights import FLIGHTS_OF_THE_YEAR, Fact, facts
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from placet.schemas.codec import Codec
from placet.schemas.decision import REASONS, Outcome, Reason
from placet.schemas.definition import load_definition
from placet.schemas.errors import PlacetError
from placet.schemas.messages import Kind, Message
from placet.streams.broker import Broker
from placet.streams.topology import entity_topics

APP, PARTITIONS, GATES = "demo", 4, 2
DEFINITION = Path(__file__).parents[1] / "placet" / "schemas" / "examples" / "flight.yaml"
FLIGHTS = 15_000
"""Until the 18th of January."""
UNDECIDED_MAX = 500
"""Facts wait until the gates have decided: an advisor that reads a backlog would know nothing but the past."""


class DemoError(Exception):
    """The demo can't go on."""


class Tally:
    """What was decided, and how long that took."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[Outcome, Reason, Kind]] = Counter()
        self.waited_ms: list[float] = []
        self.decided = self.changed = 0
        self.first_s = self.last_s = 0.0
        self._sent_s: dict[str, float] = {}

    def sent(self, input_id: str) -> None:
        """Note an input as it goes out."""
        self._sent_s[input_id] = time.perf_counter()

    def take(self, codec: Codec, values: list[bytes]) -> None:
        """Count decisions."""
        self.last_s = time.perf_counter()
        self.first_s = self.first_s or self.last_s
        for value in values:
            decision, _ = codec.decode_decision(value)
            self.counts[decision.outcome, decision.reason, decision.kind] += 1
            self.changed += decision.changed
            sent_s = self._sent_s.pop(decision.input_id, None)
            if sent_s is not None:
                self.waited_ms.append((self.last_s - sent_s) * 1000)
        self.decided += len(values)

    def table(self, *, explained: bool) -> Table:
        """Return the outcomes by reason."""
        table = Table(title="What was decided, and why", title_justify="left")
        for heading in ("outcome", "reason"):
            table.add_column(heading, no_wrap=True)
        for heading in ("facts", "proposals", "share"):
            table.add_column(heading, justify="right")
        if explained:
            table.add_column("that is")
        rows = Counter[tuple[Outcome, Reason]]()
        for (outcome, reason, _), count in self.counts.items():
            rows[outcome, reason] += count
        for (outcome, reason), count in rows.most_common():
            of = [self.counts[outcome, reason, kind] for kind in (Kind.SIGNAL, Kind.PROPOSAL)]
            table.add_row(
                outcome.name, reason.name if reason else "", *(f"{n:,}" if n else "" for n in of),
                f"{count / self.decided:.1%}", *([REASONS[reason].meaning] if explained else []),
            )  # fmt: skip
        return table

    def speed(self) -> str:
        """Say how fast it was."""
        waited = sorted(self.waited_ms) or [0.0]
        p50, p99 = waited[len(waited) // 2], waited[len(waited) * 99 // 100]
        return (
            f"{self.decided:,} decisions, {self.decided / max(self.last_s - self.first_s, 0.001):,.0f} each second, "
            f"as fast as this machine went with all of it running here; from sending to a visible decision half of "
            f"them took {p50:.0f} ms, 99 % at most {p99:.0f} ms, the queue in front of the gates included."
        )


class Demo:
    """The demo's world: broker, topics, gates and advisor, given back by `stack`."""

    def __init__(self, stack: ExitStack, out: Console, seed: int) -> None:
        self._out = out
        definition = load_definition(DEFINITION)
        self._codec, self._topics = Codec(definition), entity_topics(APP, definition.entity)
        self._folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="placet-demo-")))
        self._servers = self._start_broker(stack)
        if self._placet("topics", "apply", "--partitions", str(PARTITIONS), quiet=True).returncode:
            raise DemoError("`placet topics apply` failed")
        out.print(f"Two gates share the topics' {PARTITIONS} partitions: `placet run --definition flight.yaml`.")
        self._gates = [self._start_gate(stack, f"gate-{number}") for number in range(GATES)]
        self._wait_for_gates()
        self.tally = Tally()
        self._advisor = Advisor(self._servers, definition, self._topics, PARTITIONS, seed, self.tally.sent)
        stack.callback(self._advisor.stop)
        self._producer = Producer({"bootstrap.servers": self._servers, "partitioner": "murmur2_random", "linger.ms": 5})
        stack.callback(self._producer.close)
        stack.callback(self._producer.purge)
        self._eyes = Consumer({
            "bootstrap.servers": self._servers, "group.id": "demo-eyes", "enable.auto.commit": False,
            "isolation.level": "read_committed",
        })  # fmt: skip
        stack.callback(self._eyes.close)

    def run(self, flights: int, bars: Progress) -> None:
        """Feed the flights' facts, as fast as the gates go, until everything is decided and the advisor is silent."""
        coming, fed, ended = facts(flights), 0, False
        flights_bar = bars.add_task("flights fed", total=flights)
        decided_bar = bars.add_task("facts and proposals decided", total=None)
        self._eyes.assign([TopicPartition(self._topics.decisions, n, 0) for n in range(PARTITIONS)])
        self._advisor.start()
        while not (ended and self._is_quiet(fed)):
            room = UNDECIDED_MAX - (fed + self._advisor.proposed - self.tally.decided)
            batch = list(islice(coming, max(room, 0)))
            for fact in batch:
                self._feed(fact)
            fed, ended = fed + len(batch), ended or (room > 0 and not batch)
            self._producer.poll(0)
            messages: list[Any] = self._eyes.consume(1_000, 0.02)
            self.tally.take(self._codec, [message.value() for message in messages if message.error() is None])
            bars.advance(flights_bar, sum(fact.name == "flight_scheduled" for fact in batch))
            bars.update(decided_bar, completed=self.tally.decided, total=fed + self._advisor.proposed)
            self._check_gates()

    def _is_quiet(self, fed: int) -> bool:
        """Tell whether the advisor has read all changes and has no thoughts left, and all that it said is decided."""
        tally, advisor = self.tally, self._advisor
        return advisor.read == tally.changed and advisor.idle and tally.decided == fed + advisor.proposed

    def _feed(self, fact: Fact) -> None:
        """Report a fact. It happens now: the year's times are fields."""
        now_ms = time.time_ns() // 1_000_000
        input_id = f"{fact.name}.{fact.flight}.{fact.at}"
        message = Message(Kind.SIGNAL, fact.name, input_id, fact.flight, fact.payload, now_ms, now_ms)
        self.tally.sent(input_id)
        self._producer.produce(self._topics.signals, self._codec.encode_message(message), fact.flight.encode())

    def verify(self) -> int:
        """Run `placet verify` when the gates have left; return its exit code."""
        for gate in self._gates:
            gate.terminate()
        for gate in self._gates:
            gate.wait(30)
        return self._placet("verify").returncode

    def _start_broker(self, stack: ExitStack) -> str:
        """Start a Kafka that goes away with the demo."""
        began_s, last = time.monotonic(), ""

        def on_progress(what: str, _done: int, _steps: int) -> None:
            nonlocal last
            if what != last:
                self._out.print(f"Kafka: {what} ...")
            last = what

        broker = Broker()
        stack.callback(broker.close)
        broker.start(on_progress)
        ready_s = time.monotonic() - began_s
        self._out.print(f"A real Kafka runs at {broker.bootstrap_servers}, in a temporary folder ({ready_s:.1f} s).")
        return broker.bootstrap_servers

    def _start_gate(self, stack: ExitStack, instance: str) -> subprocess.Popen[bytes]:
        """Start `placet run`; its log goes to a file."""
        state, log = self._folder / "state" / instance, self._folder / f"{instance}.log"
        with log.open("wb") as out:
            gate = subprocess.Popen(
                [sys.executable, "-m", "placet.cli", "run", "--instance", instance, "--state-dir", str(state)],
                env=self._environment(), stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                start_new_session=True,  # Ctrl-C is for the demo, which ends it in good order
            )  # fmt: skip
        stack.callback(_end, gate)
        return gate

    def _wait_for_gates(self) -> None:
        """Wait until each gate has a share of the partitions."""
        logs, deadline_s = [self._folder / f"gate-{number}.log" for number in range(GATES)], time.monotonic() + 120
        while not all(b'"running": ["' in log.read_bytes() for log in logs):
            self._check_gates()
            if time.monotonic() > deadline_s:
                raise DemoError(f"the gates do not start:\n{self._last_words()}")
            time.sleep(0.05)

    def _check_gates(self) -> None:
        for gate in self._gates:
            if gate.poll() is not None:
                raise DemoError(f"a gate ended with exit code {gate.returncode}:\n{self._last_words()}")

    def _placet(self, *arguments: str, quiet: bool = False) -> subprocess.CompletedProcess[bytes]:
        """Run a command of `placet` to its end."""
        self._out.file.flush()
        return subprocess.run(
            [sys.executable, "-m", "placet.cli", *arguments], env=self._environment(), check=False,
            stdout=subprocess.DEVNULL if quiet else None,
        )  # fmt: skip

    def _environment(self) -> dict[str, str]:
        own = {name: value for name, value in os.environ.items() if not name.startswith("PLACET_")}
        settings = {"APP": APP, "DEFINITION": str(DEFINITION), "KAFKA__BOOTSTRAP_SERVERS": self._servers}
        return own | {f"PLACET_{name}": value for name, value in settings.items()}

    def _last_words(self) -> str:
        return "".join(log.read_text(errors="replace")[-1_500:] for log in sorted(self._folder.glob("*.log")))


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process: in good order if that works within seconds."""
    process.terminate()
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="ops/demo",
        description="Real flights of 2013 as facts, a simple advisor's proposals, two gates that decide, on a real "
        "Kafka. Shows what was decided and why, then runs `placet verify`. Leaves nothing behind.",
        epilog="Exit code: 0 fine, 1 verify found a difference or the demo broke, 130 interrupted.",
    )
    much = parser.add_mutually_exclusive_group()
    much.add_argument("--flights", type=int, default=FLIGHTS, help=f"the first so many of the year ({FLIGHTS})")
    much.add_argument("--all", action="store_true", help=f"the whole year: {FLIGHTS_OF_THE_YEAR:,} flights, minutes")
    parser.add_argument("--seed", type=int, default=2013, help="of the advisor's fancies (2013)")
    return parser.parse_args()


def _interrupted(*_: object) -> None:
    raise KeyboardInterrupt


def main() -> int:
    arguments, out = _arguments(), Console(highlight=False)
    flights = FLIGHTS_OF_THE_YEAR if arguments.all else arguments.flights
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupted)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    try:
        with ExitStack() as stack:
            demo = Demo(stack, out, arguments.seed)
            out.print(
                f"{flights:,} flights that left New York in 2013 become facts: scheduled, delayed, departed, arrived, "
                "cancelled. An advisor reads the committed states, thinks for some milliseconds and proposes to hold a "
                "flight, to rebook passengers, to tell them that it is late. Meanwhile the world moves on."
            )
            with Progress(*columns, console=out) as bars:
                demo.run(flights, bars)
            out.print(demo.tally.table(explained=out.width >= 120))
            out.print(demo.tally.speed())
            out.print("The gates have left. `placet verify` decides everything again and compares each byte:")
            return demo.verify()
    except (DemoError, PlacetError) as error:
        out.print(f"ops/demo: {error}", style="red", markup=False)
        return 1
    except KeyboardInterrupt:
        out.print("Interrupted; everything is cleaned up.")
        return 130


if __name__ == "__main__":
    sys.exit(main())
