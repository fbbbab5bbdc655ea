"""A small world for tests: real gate processes on a real broker, and eyes that see what users see."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from random import Random
from typing import Any

from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource

from placet.definitions import load_definition
from placet.devbroker.frozen_process import freeze, unfreeze
from placet.processors.address import partition_of
from placet.schemas.codec.codec import Codec
from placet.schemas.codec.dead_letter import DeadLetter, decode_dead_letter
from placet.schemas.decision import Coordinates, Decision
from placet.schemas.ledger import Commit
from placet.schemas.messages import Kind, Message
from placet.schemas.state import Change
from placet.streams.topology import control_topic, dead_letters_topic, entity_topics

DEFINITION = Path(__file__).with_name("order.yaml")


def wait_until(condition: Callable[[], Any], timeout_s: float, what: str) -> Any:
    """Ask again until the condition gives something true; fail with a sentence when it never does."""
    deadline = time.monotonic() + timeout_s
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s} s: {what}")
        time.sleep(0.05)


class Gate:
    """One `placet run` process."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self.log = log

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)

    def pause(self) -> None:
        freeze(self.process.pid)

    def resume(self) -> None:
        unfreeze(self.process.pid)

    def terminate(self, timeout_s: float = 30) -> int:
        self.process.terminate()
        return self.process.wait(timeout_s)

    def text(self) -> str:
        return self.log.read_text(errors="replace")

    def events(self, name: str) -> list[dict[str, Any]]:
        """What it logged under this name, in order."""
        lines = [line for line in self.text().splitlines() if f'"event": "{name}"' in line and line.endswith("}")]
        return [json.loads(line) for line in lines]


class World:
    """An app of its own on the shared broker: topics, gates, producers, readers."""

    def __init__(
        self, bootstrap_servers: str, folder: Path, app: str, definition: Path = DEFINITION, partitions: int = 4
    ) -> None:
        self.bootstrap_servers = bootstrap_servers
        self.folder = folder
        self.app = app
        self.file = definition
        self.definition = load_definition(definition)
        self.codec = Codec(self.definition)
        self.topics = entity_topics(app, self.definition.entity)
        self.partitions = partitions
        self.gates: list[Gate] = []
        self.producer = Producer(
            {"bootstrap.servers": bootstrap_servers, "partitioner": "murmur2_random", "linger.ms": 2, "log_level": 2}
        )

    def __enter__(self) -> World:
        self.placet("topics", "apply", "--definition", str(self.file), "--partitions", str(self.partitions))
        return self

    def __exit__(self, *_: object) -> None:
        for gate in self.gates:
            if gate.process.poll() is None:
                gate.resume()
                gate.kill()

    def environment(self, **more: str) -> dict[str, str]:
        return {
            **os.environ,
            "PLACET_APP": self.app,
            "PLACET_KAFKA__BOOTSTRAP_SERVERS": self.bootstrap_servers,
            "PLACET_STATE_DIR": str(self.folder / "state"),
            **more,
        }

    def placet(
        self, *arguments: str, check: bool = True, timeout_s: float = 120, **more: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command of the shell to its end."""
        command = [sys.executable, "-m", "placet.cli", *arguments]
        done = subprocess.run(
            command, env=self.environment(**more), capture_output=True, text=True, timeout=timeout_s, check=False,
            start_new_session=True,
        )  # fmt: skip
        assert not check or done.returncode == 0, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def gate(
        self, instance: str, *, program: Iterable[str] = ("-m", "placet.cli"), attempt: int | str = "", **more: str
    ) -> Gate:
        """Start a gate; its state is in a folder of its instance's. Another `attempt` has a log of its own."""
        log = self.folder / f"{instance}{attempt}.log"
        environment = self.environment(
            PLACET_INSTANCE=instance, PLACET_STATE_DIR=str(self.folder / "state" / instance), **more
        )
        with log.open("ab") as out:
            process = subprocess.Popen(
                [sys.executable, *program, "run", "--definition", str(self.file)],
                env=environment,
                stdout=out,
                stderr=out,
                start_new_session=True,  # Ctrl-C in the terminal is the caller's to handle
            )
        gate = Gate(process, log)
        self.gates.append(gate)
        return gate

    # -- in -------------------------------------------------------------------------------------------------------

    def signal(self, entity: str, name: str, payload: dict[str, Any], signal_id: str, **fields: Any) -> None:
        now = time.time_ns() // 1_000_000
        message = Message(Kind.SIGNAL, name, signal_id, entity, payload, fields.pop("event_time", now), now, **fields)
        self.send(self.topics.signals, entity.encode(), self.codec.encode_message(message))

    def propose(self, entity: str, name: str, payload: dict[str, Any], proposal_id: str, **fields: Any) -> None:
        issued_at = fields.pop("issued_at", time.time_ns() // 1_000_000)
        fields.setdefault("dedup_key", proposal_id)
        message = Message(Kind.PROPOSAL, name, proposal_id, entity, payload, issued_at, issued_at, **fields)
        self.send(self.topics.proposals, entity.encode(), self.codec.encode_message(message))

    def signal_bytes(self, entity: str, name: str, payload: dict[str, Any], signal_id: str) -> bytes:
        now = time.time_ns() // 1_000_000
        return self.codec.encode_message(Message(Kind.SIGNAL, name, signal_id, entity, payload, now, now))

    def send_home(self, key: bytes) -> int:
        return partition_of(key, self.partitions)

    def send(self, topic: str, key: bytes | None, value: bytes | None, partition: int | None = None) -> None:
        if partition is None:
            partition = partition_of(key or b"", self.partitions)
        while True:
            try:
                self.producer.produce(topic, value, key, partition)
            except BufferError:
                self.producer.poll(0.1)
            else:
                break
        self.producer.poll(0)

    def flush(self) -> None:
        assert self.producer.flush(30) == 0

    def load(self, count: int, *, entities: int = 200, seed: int = 1, first: int = 0) -> None:
        """Send a mix of inputs, as a careless world would: repeats, stale proposals, facts of unknown orders."""
        random = Random(seed)
        for n in range(first, first + count):
            entity = f"order-{random.randrange(entities):05d}"
            what = random.random()
            if what < 0.2:
                self.signal(entity, "opened", {"total": 5}, f"opened-{entity}")
            elif what < 0.5:
                self.signal(entity, "added", {"amount": random.randrange(9)}, f"added-{n}")
            elif what < 0.6:
                self.signal(entity, "seen", {}, f"seen-{n % 50}")
            elif what < 0.7:
                self.signal(entity, "temperature", {"value": random.randrange(110)}, f"t-{n}")
            elif what < 0.72:
                self.signal(entity, "closed", {}, f"closed-{n}")
            else:
                name = random.choice(("hold", "release", "annotate", "annotate"))
                payload = {} if name == "release" else {"note": f"n{n}"}
                key = f"p-{n if random.random() < 0.8 else n // 2}"
                self.propose(entity, name, payload, f"p-{n}", dedup_key=key, base_version=random.randrange(6))

    # -- out ------------------------------------------------------------------------------------------------------

    def read(self, topic: str, *, committed: bool = True) -> list[Any]:
        """Everything on a topic, to its end, in partition order."""
        consumer = Consumer({
            "bootstrap.servers": self.bootstrap_servers, "group.id": f"eyes-{self.app}", "enable.auto.commit": False,
            "isolation.level": "read_committed" if committed else "read_uncommitted", "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
        })  # fmt: skip
        partitions = sorted(consumer.list_topics(topic, 10).topics[topic].partitions)
        consumer.assign([TopicPartition(topic, partition, 0) for partition in partitions])
        found: dict[int, list[Any]] = {partition: [] for partition in partitions}
        open_partitions = set(partitions)
        deadline = time.monotonic() + 60
        while open_partitions and time.monotonic() < deadline:
            for message in consumer.consume(5_000, 0.2):
                error = message.error()
                if error is None:
                    found[message.partition()].append(message)
                elif error.code() == KafkaError._PARTITION_EOF:
                    open_partitions.discard(message.partition())
        consumer.close()
        assert not open_partitions, f"{topic}: no end of {open_partitions}"
        return [message for partition in partitions for message in found[partition]]

    def decisions(self) -> list[tuple[Decision, Coordinates]]:
        return [self.codec.decode_decision(message.value()) for message in self.read(self.topics.decisions)]

    def changes(self) -> list[Change]:
        return [
            self.codec.decode_change(message.value(), message.headers() or [])
            for message in self.read(self.topics.changelog)
            if message.value() is not None
        ]

    def commits(self) -> dict[int, list[Commit]]:
        """The commit records by partition, in order."""
        found: dict[int, list[Commit]] = {}
        for message in self.read(self.topics.ledger):
            entry = self.codec.decode_ledger(message.value()) if message.value() is not None else None
            if isinstance(entry, Commit):
                found.setdefault(message.partition(), []).append(entry)
        return found

    def dead_letters(self) -> list[DeadLetter]:
        return [decode_dead_letter(message.value()) for message in self.read(dead_letters_topic(self.app))]

    def states(self) -> dict[str, Any]:
        """The last state of every order, as a compacted reader sees it."""
        return {change.entity_id: change.state for change in self.changes()}

    def inputs(self) -> int:
        return sum(len(self.read(topic)) for topic in self.topics.inputs)

    def decided(self, timeout_s: float = 60) -> list[tuple[Decision, Coordinates]]:
        """Wait until every input has a decision; return them all."""
        expected = self.inputs()
        wait_until(lambda: self.ends(self.topics.inputs) == self.committed(), timeout_s, "all inputs are decided")
        decisions = self.decisions()
        keys = Counter((at.topic, at.partition, at.offset) for _, at in decisions)
        assert len(decisions) == expected, f"{len(decisions)} decisions for {expected} inputs"
        assert max(keys.values(), default=1) == 1, "an input has more than one decision"
        return decisions

    def ends(self, topics: Iterable[str]) -> dict[tuple[str, int], int]:
        consumer = Consumer({"bootstrap.servers": self.bootstrap_servers, "group.id": "eyes"})
        ends = {
            (topic, partition): consumer.get_watermark_offsets(TopicPartition(topic, partition), 10)[1]
            for topic in topics
            for partition in range(1 if topic == control_topic(self.app) else self.partitions)
        }
        consumer.close()
        return {key: end for key, end in ends.items() if end > 0}

    def committed(self) -> dict[tuple[str, int], int]:
        consumer = Consumer({"bootstrap.servers": self.bootstrap_servers, "group.id": self.app})
        asked = [TopicPartition(topic, n) for topic in self.topics.inputs for n in range(self.partitions)]
        found = {(p.topic, p.partition): p.offset for p in consumer.committed(asked, 10)}
        consumer.close()
        return {key: position for key, position in found.items() if position > 0}

    def decisions_written(self) -> int:
        """How far the decisions' logs have come: a cheap sign of life, markers and aborted records included."""
        return sum(self.ends([self.topics.decisions]).values())

    def alter(self, topic: str, name: str, value: str) -> None:
        entry = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=[entry])
        admin = self.admin()
        admin.incremental_alter_configs([resource])[resource].result()

    def admin(self) -> AdminClient:
        return AdminClient({"bootstrap.servers": self.bootstrap_servers})
