"""Three brokers, three gates, a copier and a load, and the hands that a fault needs there."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Any, Final

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from bench.soak.load import Load, wider
from bench.soak.slopes import Sample, sample_of
from placet.definitions import parse_definition
from placet.devbroker.broker import Broker
from placet.schemas.codec.codec import Codec
from placet.schemas.errors import PlacetError
from placet.streams.host import LocalHost
from placet.streams.kafka.admin import Admin
from tests.cluster import CONTROLLER, Cluster
from tests.integration.gates import Gate, World
from tests.integration.outage import PARTITIONS, Outage

__all__ = [
    "BROKER_SESSION_S",
    "GATES",
    "GATE_SESSION_S",
    "SAMPLE_EVERY_S",
    "Life",
    "Loaded",
    "Site",
    "SoakError",
    "transactions_of",
]

BROKER_SESSION_S: Final = 9.0
GATE_SESSION_S: Final = 45.0
"""Both are Kafka's own defaults."""
AS_KAFKA_HAS_IT: Final = {
    "consumer.session.timeout.ms": str(int(GATE_SESSION_S * 1000)),
    "consumer.heartbeat.interval.ms": "5000",
}
"""Of a group; the embedded broker is set to miss its members sooner."""
GATES: Final = ("a", "b", "c")
KILLED: Final = -9
SAMPLE_EVERY_S: Final = 5.0
LOADED_S: Final = 10.0
"""After its start a gate has its modules, clients and tasks: what it takes before says nothing."""
LOOK_EVERY_S: Final = 0.5


class SoakError(Exception):
    """What should have happened did not: a fault that could not be brought about, or does not end."""


class Loaded(Outage):
    """An outage's world with three gates, and proposals beside the facts."""

    def __init__(self, cluster: Cluster, folder: Path, seed: int) -> None:
        super().__init__(cluster, folder, "soak", GATES)
        self.load = Load(seed)
        self._wider = Codec(parse_definition(wider(2), "wider"))

    def _start(self) -> None:
        """Before a member joins: its session goes by what was set at its last heartbeat."""
        with Admin(LocalHost(), {"bootstrap.servers": self.cluster.bootstrap_servers}) as admin:
            for group in (self.world.app, self.copies):
                admin.alter_group_configs(group, AS_KAFKA_HAS_IT)
        super()._start()

    def inputs(self, number: int) -> Iterator[tuple[str, int, str, bytes]]:
        """See `Outage`."""
        topics = {1: self.world.topics.signals, 2: self.world.topics.proposals}
        for partition, message in self.load.messages(number, time.time_ns() // 1_000_000):
            codec = self._wider if message.name == "owned" else self.world.codec
            yield topics[message.kind], partition, message.entity_id, codec.encode_message(message)


@dataclass
class Life:
    """One process of a gate, from its start to its end.

    Attributes:
        name: the gate's.
        gate: the process and its log.
        began_s: when it was started, by the clock of its samples.
        expected: the exit code with which it should end: none, as long as it should run.
        found: the one with which it has ended.
        amid: what was going on when it ended by itself.
        samples: what it took from its machine.
    """

    name: str
    gate: Gate
    began_s: float
    expected: int | None = None
    found: int | None = None
    amid: str = ""
    samples: list[Sample] = field(default_factory=list)

    @property
    def log(self) -> str:
        """The name of its log."""
        return self.gate.log.name

    def running(self) -> list[str]:
        """The tasks that it runs, as it last said."""
        said = self.gate.events("tasks")
        return list(said[-1]["running"]) if said else []

    def version(self) -> int:
        """The version of the rules that it goes by, where it has said so."""
        said = self.gate.events("rules changed")
        return int(said[-1]["version"]) if said else 1


class Site:
    """What a fault works on, and who keeps watch meanwhile.

    Args:
        outage: runs already.
        stop: set when the run shall end early.
        says: told what happens.
        shows: told how far it is, again and again.
        away_s: how long who is away is away, in seconds.
    """

    def __init__(
        self, outage: Loaded, stop: Event, says: Callable[[str], None], shows: Callable[[], None], away_s: float
    ) -> None:
        self.outage, self.stop, self.says, self.away_s = outage, stop, says, away_s
        self._shows = shows
        self.lives = [Life(name, gate, time.monotonic()) for name, gate in zip(GATES, outage.gates, strict=True)]
        self.now = {life.name: life for life in self.lives}
        self.amid = "the start"
        self.version = 1
        self.trouble: list[str] = []
        """What did not go as it should, beside the gates' own ends."""
        self._sampled_s = 0.0

    @property
    def world(self) -> World:
        """Topics and readers."""
        return self.outage.world

    def admin(self) -> Admin:
        """An admin client, which is closed behind a `with` block."""
        return Admin(LocalHost(), {"bootstrap.servers": self.world.bootstrap_servers})

    # -- waiting --------------------------------------------------------------------------------------------------

    def pause(self, seconds: float) -> None:
        """Let time pass, and keep watch; less of it when the run shall end."""
        until_s = time.monotonic() + seconds
        while (left_s := until_s - time.monotonic()) > 0 and not self.stop.is_set():
            self.watch()
            self.stop.wait(min(LOOK_EVERY_S, left_s))

    def until(
        self, condition: Callable[[], object], timeout_s: float, what: str, *, though_stopping: bool = False
    ) -> None:
        """Wait for a condition, and keep watch; in vain when the run shall end.

        Raises:
            SoakError: it does not come.
        """
        until_s = time.monotonic() + timeout_s
        while though_stopping or not self.stop.is_set():
            self.watch()
            with suppress(KafkaException, PlacetError):  # no leader, or no answer, at this moment
                if condition():
                    return
            if time.monotonic() > until_s:
                raise SoakError(f"not within {timeout_s:g} s: {what}")
            time.sleep(LOOK_EVERY_S)

    def watch(self) -> None:
        """Look after the gates: one that has ended by itself is noted, and started again, as a supervisor would."""
        for life in list(self.now.values()):
            code = life.gate.process.poll()
            if code is not None and life.found is None:
                life.found, life.amid = code, self.amid
                self.says(f"gate {life.name} ended by itself with {code}")
                self.start(life.name)
        now_s = time.monotonic()
        if now_s >= self._sampled_s + SAMPLE_EVERY_S:
            self._sampled_s = now_s
            for life in self.now.values():
                sample = sample_of(life.gate.process.pid, now_s) if now_s >= life.began_s + LOADED_S else None
                if sample is not None and life.found is None:
                    life.samples.append(sample)
        self._shows()

    def copier_stands(self) -> bool:
        """Whether the copier copies nothing of some partition, for five seconds in which facts came."""
        with suppress(KafkaException):
            before = self.world.ends([self.outage.copies])
            self.pause(5)
            after = self.world.ends([self.outage.copies])
            return not self.stop.is_set() and any(after.get(place, 0) == end for place, end in before.items())
        return False

    # -- gates ----------------------------------------------------------------------------------------------------

    def start(self, name: str) -> Life:
        """Start a gate that does not run."""
        attempt = 1 + sum(life.name == name for life in self.lives)
        life = self.now[name] = Life(name, self.world.gate(name, attempt=f"-{attempt}"), time.monotonic())
        self.lives.append(life)
        return life

    def kill(self, name: str) -> None:
        """End a gate with SIGKILL."""
        life = self.now[name]
        life.expected = KILLED
        life.gate.kill()
        life.found = life.gate.process.returncode

    def end(self, name: str) -> None:
        """Tell a gate to stop, and wait until it has."""
        life = self.now[name]
        life.expected = 0
        try:
            life.found = life.gate.terminate(60)
        except subprocess.TimeoutExpired as error:
            raise SoakError(f"gate {name} did not stop within 60 s") from error

    def all_tasks_run(self, *, without: str = "") -> bool:
        """Whether the tasks are spread over all gates, and run; or over all but one."""
        running = [life.running() for name, life in self.now.items() if name != without]
        return all(running) and sorted(task for tasks in running for task in tasks) == sorted(
            f"{self.world.definition.entity}-{n}" for n in range(PARTITIONS)
        )

    # -- rules ----------------------------------------------------------------------------------------------------

    @property
    def widened(self) -> bool:
        """Whether the wider rules are in force."""
        return self.outage.load.widened

    def widen(self) -> None:
        """Publish the wider rules."""
        self.says(f"version {self.version + 1} of the rules is published: a field and a fact more")
        file = self.world.folder / f"wider-{self.version + 1}.yaml"
        file.write_text(wider(self.version + 1))
        self._changed("publish", str(file))
        self.outage.load.widened = True

    def narrow(self) -> None:
        """Withdraw them: what they had added is removed, which wants to be forced."""
        self.says(f"version {self.version} of the rules is withdrawn")
        self.outage.load.widened = False
        self._changed("withdraw", self.world.definition.entity, "--to", "1", "--force")

    def rules_are_heard(self) -> None:
        """Wait until each gate goes by the rules in force."""
        self.until(
            lambda: {life.version() for life in self.now.values()} == {self.version}, 60,
            f"each gate goes by version {self.version}",
        )  # fmt: skip

    def _changed(self, *command: str) -> None:
        done = self.world.placet("definitions", *command, check=False)
        if done.returncode:
            raise SoakError(f"placet definitions {command[0]}: {done.returncode}\n{done.stdout}{done.stderr}".rstrip())
        self.version += 1

    # -- brokers --------------------------------------------------------------------------------------------------

    def node(self, number: int) -> Broker:
        """A broker, or the controller."""
        return self.outage.cluster.controller if number == CONTROLLER else self.outage.cluster.brokers[number]

    def group_coordinator(self) -> int:
        """The broker that coordinates the gates' group."""
        with self.admin() as admin:
            number, _ = admin.coordinator_and_members(self.world.app)
            return number

    def transaction_coordinator(self, name: str) -> int:
        """The broker that coordinates a gate's transactions."""
        topic = "__transaction_state"
        metadata = AdminClient({"bootstrap.servers": self.world.bootstrap_servers}).list_topics(topic, 10)
        partitions: dict[int, Any] = metadata.topics[topic].partitions
        return int(partitions[transactions_of(f"{self.world.app}.{name}", len(partitions))].leader)


def transactions_of(transactional_id: str, partitions: int) -> int:
    """Return the partition of Kafka's topic of transactions that an id belongs to: by Java's hash of its name."""
    found = 0
    for unit in transactional_id.encode("utf-16-be")[1::2]:  # ASCII
        found = (31 * found + unit) & 0xFFFFFFFF
    signed = found - (1 << 32) if found >= 1 << 31 else found
    return (0 if signed == -(1 << 31) else abs(signed)) % partitions
