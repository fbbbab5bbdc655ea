"""The rights that the page on operating gives are enough, on a broker that refuses all else: read from its table."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from confluent_kafka import Consumer
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # exported, but without __all__
    AclBinding,
    AclOperation,
    AclPermissionType,
    ResourcePatternType,
    ResourceType,
)

from placet.devbroker.broker import Broker
from placet.devbroker.settings import HOST, free_port
from placet.streams.topology import control_topic, dead_letters_topic, gates_topic
from tests.integration.gates import World, wait_until

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(120)]

PAGE = Path(__file__).parents[2] / "docs" / "operating.md"
APP = "guarded"
USERS = ("gates", "publishers", "agents", "applications", "explainers", "readers", "consumers", "people")
"""In the order of the page."""
KINDS = {
    "group": ResourceType.GROUP, "transactional ids": ResourceType.TRANSACTIONAL_ID, "topics": ResourceType.TOPIC,
}  # fmt: skip
BESIDES = re.compile(r"(group|transactional ids|topics) `<app>([^`*]*)(\*?)`: ([A-Za-z, ]+)")


class Rights(NamedTuple):
    """A row of the page."""

    principal: str
    reads: list[str]
    writes: list[str]
    besides: str


def rights() -> dict[str, Rights]:
    """Read the page's table."""
    section = PAGE.read_text().partition("## Rights\n")[2].partition("\n## ")[0]
    rows = [line.strip("| \n").split(" | ") for line in section.splitlines() if line.startswith("| ")][2:]
    found = [Rights(name, _roles(reads), _roles(writes), besides) for name, reads, writes, besides in rows]
    return dict(zip(USERS, found, strict=True))


def _roles(cell: str) -> list[str]:
    roles = ["signals", "proposals", "changelog", "decisions", "ledger", "control", "gates", "dead-letters"]
    return roles if cell == "all" else [role for role in roles if re.search(rf"\b{role}\b", cell)]


class Guarded:
    """A world of which each principal sees what its row says, and a gate that runs as one of them."""

    def __init__(self, world: World, port: int) -> None:
        self.world = world
        self._port = port
        topics = world.topics._asdict()
        self._topics = {
            **topics, "control": control_topic(APP), "gates": gates_topic(APP), "dead-letters": dead_letters_topic(APP),
        }  # fmt: skip
        self._admin = world.admin()
        for user, row in rights().items():
            self._grant(user, row)

    def _grant(self, user: str, row: Rights) -> None:
        topic, literal, prefixed = ResourceType.TOPIC, ResourcePatternType.LITERAL, ResourcePatternType.PREFIXED
        bindings = [(topic, self._topics[role], literal, "Read") for role in row.reads]
        bindings += [(topic, self._topics[role], literal, "Write") for role in row.writes]
        if user != "consumers":
            bindings += [(topic, f"{APP}.", prefixed, what) for what in ("Describe", "DescribeConfigs")]
        else:
            bindings.append((ResourceType.GROUP, "of-their-own", literal, "Read"))
        for kind, rest, star, operations in BESIDES.findall(row.besides):
            pattern = prefixed if star else literal
            bindings += [(KINDS[kind], f"{APP}{rest}", pattern, what) for what in operations.split(", ")]
        made = [
            AclBinding(kind, name, pattern, f"User:{user}", "*", _operation(what), AclPermissionType.ALLOW)
            for kind, name, pattern, what in bindings
        ]
        for done in self._admin.create_acls(made).values():
            done.result(20)

    def client(self, user: str) -> dict[str, str]:
        """Return librdkafka's options of a principal."""
        return {
            "security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "PLAIN", "sasl.username": user,
            "sasl.password": "secret",
        }  # fmt: skip

    def environment(self, user: str) -> dict[str, str]:
        """Return what a process of a principal is told."""
        return {
            "PLACET_KAFKA__BOOTSTRAP_SERVERS": self.bootstrap_servers,
            "PLACET_KAFKA__OPTIONS": json.dumps(self.client(user)),
        }

    @property
    def bootstrap_servers(self) -> str:
        return f"{HOST}:{self._port}"

    def placet(self, user: str, *arguments: str) -> str:
        """Run a command as a principal; return what it prints."""
        return self.world.placet(*arguments, **self.environment(user)).stdout


def _operation(name: str) -> Any:
    return AclOperation[re.sub("(?<=[a-z])(?=[A-Z])", "_", name).upper()]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    plain, guarded_port, controller = free_port(), free_port(), free_port()
    users = " ".join(f'user_{user}="secret"' for user in USERS)
    listeners = f"PLAINTEXT://{HOST}:{plain},SASL_PLAINTEXT://{HOST}:{guarded_port}"
    settings = {
        "listeners": f"{listeners},CONTROLLER://{HOST}:{controller}",
        "advertised.listeners": listeners,
        "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL_PLAINTEXT:SASL_PLAINTEXT",
        "controller.quorum.voters": f"1@{HOST}:{controller}",
        "sasl.enabled.mechanisms": "PLAIN",
        "listener.name.sasl_plaintext.plain.sasl.jaas.config": (
            f"org.apache.kafka.common.security.plain.PlainLoginModule required {users};"
        ),
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",  # who comes without a password: brokers, and this test
    }
    folder = tmp_path_factory.mktemp("guarded")
    with Broker(port=plain, settings=settings) as broker, World(broker.bootstrap_servers, folder, APP) as world:
        made = Guarded(world, guarded_port)
        gate = world.gate("a", **made.environment("gates"))
        world.signal("o-1", "opened", {"total": 5}, "s-1")
        world.send(world.topics.signals, b"o-1", b"no record")
        world.flush()
        wait_until(lambda: gate.process.poll() is not None or len(world.decisions()) == 2, 60, "it decides")
        assert gate.process.poll() is None, gate.text()
        yield made
        assert gate.terminate() == 0
        assert "uthoriz" not in gate.text()


def test_a_gate_decides_and_keeps_what_does_not_decode(guarded: Guarded) -> None:
    assert len(guarded.world.dead_letters()) == 1


def test_people_who_ask_are_told(guarded: Guarded) -> None:
    of_orders = ("--entity", "order")
    assert "ACCEPTED" in guarded.placet("explainers", "explain", "s-1", *of_orders)
    assert "s-1" in guarded.placet("explainers", "decisions", "tail", *of_orders)
    assert "UNDECODABLE" in guarded.placet("explainers", "decisions", "dead-letters", *of_orders)
    assert "open" in guarded.placet("readers", "state", "get", "o-1", *of_orders)
    assert "s-1" in guarded.placet("readers", "history", "o-1", *of_orders)
    guarded.placet("readers", "timers", "list", *of_orders)


def test_agents_and_applications_are_answered(guarded: Guarded) -> None:
    fact = ("signal", "o-2", "opened", '{"total": 5}', "--id", "s-2", "--entity", "order", "--wait")
    assert "ACCEPTED" in guarded.placet("applications", *fact)
    wish = ("propose", "o-2", "hold", '{"note": "x"}', "--dedup-key", "k-1", "--entity", "order", "--wait")
    assert "ACCEPTED" in guarded.placet("agents", *wish)


def test_consumers_read_states(guarded: Guarded) -> None:
    consumer = Consumer({
        "bootstrap.servers": guarded.bootstrap_servers, "group.id": "of-their-own", "auto.offset.reset": "earliest",
        "isolation.level": "read_committed", **guarded.client("consumers"),
    })  # fmt: skip
    consumer.subscribe([guarded.world.topics.changelog, guarded.world.topics.decisions])
    try:
        found = wait_until(lambda: consumer.poll(0.5), 40, "a record")
        assert found.error() is None
    finally:
        consumer.close()


def test_operators_look_and_mend(guarded: Guarded) -> None:
    world = guarded.world
    world.alter(world.topics.ledger, "min.compaction.lag.ms", "1000")
    guarded.placet("people", "topics", "apply", "--definition", str(world.file))
    admin, lost = world.admin(), dead_letters_topic(APP)  # kept: a client that is gone answers nothing
    admin.delete_topics([lost])[lost].result(20)
    wait_until(lambda: lost not in admin.list_topics(timeout=5).topics, 20, "it is gone")
    assert "create" in guarded.placet("people", "topics", "apply", "--definition", str(world.file))
    guarded.placet("people", "doctor", "--definition", str(world.file))
    assert "No difference" in guarded.placet("people", "verify")


def test_definitions_are_published_and_withdrawn(guarded: Guarded) -> None:
    text, file = guarded.world.file.read_text(), guarded.world.folder / "next.yaml"
    file.write_text(text.replace("version: 1", "version: 2").replace("valid_for: 10m", "valid_for: 9m"))
    assert "a can run it" in guarded.placet("publishers", "definitions", "publish", str(file))
    assert "order" in guarded.placet("publishers", "definitions", "withdraw", "order")
