"""The bench's world: a broker, topics, real gate processes, and what can be seen of them from outside."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from confluent_kafka import Consumer, Producer, TopicPartition

from bench.workload import DEFINITION, PARTITIONS, Input
from placet.definitions import load_definition
from placet.devbroker.broker import Broker
from placet.devbroker.settings import free_port
from placet.streams.topology import EntityTopics, entity_topics

Progress = Callable[[float], None]
"""Called with the share that is done so far."""


class BenchError(Exception):
    """What was measured is no figure: a process ended, or the gate's decisions are not those expected."""


class World:
    """A broker and a temporary folder, gone at the end with every process that was started."""

    def __init__(self) -> None:
        self.broker = Broker(heap_mib=1024)
        self._temporary = tempfile.TemporaryDirectory(prefix="placet-bench-")
        self.folder = Path(self._temporary.name)
        self._processes: list[Running] = []

    def __enter__(self) -> Self:
        self.broker.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        for running in self._processes:
            running.kill()
        self.broker.close()
        self._temporary.cleanup()

    def topics(self, app: str, definition: Path = DEFINITION) -> EntityTopics:
        """Make an app's topics."""
        arguments = ["topics", "apply", "--definition", str(definition), "--partitions", str(PARTITIONS)]
        command = [sys.executable, "-m", "placet.cli", *arguments]
        done = subprocess.run(command, env=self._environment(app), capture_output=True, text=True, check=False)
        if done.returncode:
            raise BenchError(f"placet topics apply: {done.stdout}{done.stderr}")
        return entity_topics(app, load_definition(definition).entity)

    def gate(
        self, app: str, instance: str, state: str = "", python: Sequence[str] = (), definition: Path = DEFINITION
    ) -> Gate:
        """Start `placet run`, as a user does; `state` names the folder of its stores."""
        port = free_port()
        command = [
            sys.executable, *python, "-m", "placet.cli", "run", "--definition", str(definition),
            "--instance", instance, "--state-dir", str(self.folder / (state or f"{app}-{instance}")),
            "--metrics-port", str(port),
        ]  # fmt: skip
        gate = Gate(command, self._environment(app), self.folder / f"{app}-{instance}-{time.monotonic_ns()}.log", port)
        self._processes.append(gate)
        return gate

    def copier(self, *arguments: str) -> Copier:
        """Start the copier's script."""
        log = self.folder / f"copier-{time.monotonic_ns()}.log"
        copier = Copier([sys.executable, *arguments], dict(os.environ), log)
        self._processes.append(copier)
        return copier

    def process(self, name: str, command: Sequence[str]) -> Running:
        """Start a process; its log has this name."""
        running = Running(command, dict(os.environ), self.folder / f"{name}.log")
        self._processes.append(running)
        return running

    def produce(self, topic: str, inputs: Iterable[Input], on_count: Callable[[int], None] | None = None) -> None:
        """Produce all, and wait until the broker has them."""
        producer = Producer({
            "bootstrap.servers": self.broker.bootstrap_servers, "linger.ms": 5, "batch.size": 262_144,
            "queue.buffering.max.messages": 200_000, "compression.type": "lz4",
        })  # fmt: skip
        for count, (partition, key, value) in enumerate(inputs):
            while True:
                try:
                    producer.produce(topic, value, key, partition)
                    break
                except BufferError:
                    producer.poll(0.1)
            if not count % 1_000:
                producer.poll(0)
                if on_count:
                    on_count(count)
        if producer.flush(60):
            raise BenchError(f"the broker did not take all records for {topic}")

    def _environment(self, app: str) -> dict[str, str]:
        own = {name: value for name, value in os.environ.items() if not name.startswith("PLACET_")}
        return {**own, "PLACET_APP": app, "PLACET_KAFKA__BOOTSTRAP_SERVERS": self.broker.bootstrap_servers}


class Running:
    """A process that was started here, with its log."""

    def __init__(self, command: Sequence[str], environment: dict[str, str], log: Path) -> None:
        self.log = log
        self.started_s = time.time()
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
            )

    def check(self) -> None:
        """Raise if it has ended."""
        if self._process.poll() is not None:
            said = "".join(self.log.read_text(errors="replace").splitlines(keepends=True)[-15:])
            raise BenchError(f"a process ended with {self._process.returncode}:\n{said}")

    def stop(self) -> None:
        """End it in good order."""
        self.check()
        self._process.send_signal(signal.SIGTERM)
        if self._process.wait(60):
            self.check()

    def kill(self) -> None:
        """End it, if it still runs."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def cpu_s(self) -> float:
        """CPU time so far, of all its threads, in seconds."""
        times = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(times[11]) + int(times[12])) / os.sysconf("SC_CLK_TCK")

    def rss_mib(self) -> float:
        """Resident memory now, in MiB."""
        said = subprocess.run(["ps", "-o", "rss=", "-p", str(self._process.pid)], capture_output=True, check=True)
        return int(said.stdout) / 1024


class Gate(Running):
    """A gate process: its log lines and its metrics."""

    def __init__(self, command: Sequence[str], environment: dict[str, str], log: Path, port: int) -> None:
        super().__init__(command, environment, log)
        self._url = f"http://127.0.0.1:{port}/metrics"

    def lines(self) -> Iterator[dict[str, Any]]:
        """What it logged so far; `at_s` is the time of a line, in seconds since the epoch."""
        for line in self.log.read_text(errors="replace").splitlines():
            if line.startswith("{") and line.endswith("}"):
                found = json.loads(line)
                yield {**found, "at_s": datetime.fromisoformat(found["timestamp"]).timestamp()}

    def running(self) -> list[str]:
        """The tasks that run now."""
        said = [line["running"] for line in self.lines() if line["event"] == "tasks"]
        return said[-1] if said else []

    def wait_for_tasks(self, count: int, timeout_s: float = 120) -> None:
        """Wait until it runs this many tasks."""
        deadline_s = time.monotonic() + timeout_s
        while len(self.running()) != count:
            self.check()
            if time.monotonic() > deadline_s:
                raise BenchError(f"{count} tasks do not run within {timeout_s} s")
            time.sleep(0.02)

    def decisions(self) -> Counter[str]:
        """How many decisions it has committed, by reason."""
        counts: Counter[str] = Counter()
        for line in self._metrics("placet_decisions_total"):
            counts[line.partition('reason="')[2].partition('"')[0]] += int(float(line.rpartition(" ")[2]))
        return counts

    def transactions(self) -> int:
        """How many transactions it has committed."""
        lines = self._metrics("placet_transactions_total")
        return sum(int(float(line.rpartition(" ")[2])) for line in lines if 'result="committed"' in line)

    def _metrics(self, name: str) -> list[str]:
        with urllib.request.urlopen(self._url, timeout=10) as answer:
            return [line for line in answer.read().decode().splitlines() if line.startswith(f"{name}{{")]


class Copier(Running):
    """A copier process."""

    def transactions(self) -> int:
        """How many transactions it has committed, once it has ended."""
        return int(self.log.read_text().split()[-1])


class Eyes:
    """Sees what is committed to a topic, from its end on, or from its beginning."""

    def __init__(self, bootstrap_servers: str, topic: str, *, beginning: bool = False) -> None:
        self._consumer = Consumer({
            "bootstrap.servers": bootstrap_servers, "group.id": "bench-eyes", "enable.auto.commit": False,
            "isolation.level": "read_committed", "fetch.queue.backoff.ms": 10,
        })  # fmt: skip
        here = [TopicPartition(topic, partition) for partition in range(PARTITIONS)]
        for partition in here:
            partition.offset = self._consumer.get_watermark_offsets(partition, 10)[0 if beginning else 1]
        self._consumer.assign(here)

    def look(self, timeout_s: float = 0.2) -> list[Any]:
        """Return the messages that have come, without errors."""
        first = self._consumer.poll(timeout_s)
        found = [] if first is None else [first, *self._consumer.consume(10_000, 0)]
        return [message for message in found if message.error() is None]

    def close(self) -> None:
        self._consumer.close()
