"""A schema registry that does not answer for a while: inputs that need it wait, all others go on, none is refused."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from placet.definitions import parse_definition
from placet.devbroker.broker import Broker
from placet.schemas.codec.codec import Codec
from placet.schemas.codec.contracts import contracts
from placet.schemas.codec.wire import confluent_head
from placet.schemas.messages import Kind, Message
from placet.streams.host import LocalHost
from placet.streams.kafka.schema_registry import Registry, subjects
from tests.integration.gates import DEFINITION, World, wait_until
from tests.integration.loopback_registry import loopback_registry

pytestmark = pytest.mark.kafka


def test_inputs_wait_for_a_registry_that_is_out_of_order_and_none_is_refused(broker: Broker, tmp_path: Path) -> None:
    # Of a version that is only registered, such as one that is about to be published: no control record has it.
    text = DEFINITION.read_text().replace("version: 1", "version: 2").replace(
        "signals:\n", "signals:\n  marked: {payload: {colour: string}, from: [open]}\n", 1
    )  # fmt: skip
    newer = parse_definition(text)
    with loopback_registry() as registry, World(broker.bootstrap_servers, tmp_path, "outage", partitions=2) as world:
        environment = {"PLACET_REGISTRY__URL": registry.url}
        world.placet("schemas", "register", str(DEFINITION), **environment)
        world.codec = Codec(world.definition, Registry(LocalHost(), registry.url).wire(world.app, "order"))
        subject = subjects(world.app, "order")["signal"]
        number = registry.register(subject, json.dumps(contracts(newer).signal))
        head, made_up = confluent_head(number), confluent_head(number + 1_000)
        waiting, flowing = (
            next(f"o-{n}" for n in range(99) if world.send_home(f"o-{n}".encode()) == p) for p in (0, 1)
        )

        def opened(entity: str, head: bytes, signal_id: str) -> None:
            now = time.time_ns() // 1_000_000
            message = Message(Kind.SIGNAL, "opened", signal_id, entity, {"total": 5}, now, now)
            world.send(world.topics.signals, entity.encode(), head + Codec(newer).encode_message(message)[10:])

        def reasons() -> dict[str, str]:
            return {d.input_id or d.detail: d.reason.name for d, _ in world.decisions()}

        gate = world.gate("a", **environment)
        world.signal(flowing, "opened", {"total": 1}, "first")
        world.flush()
        wait_until(lambda: "first" in reasons(), 60, "the gate decides")

        registry.out = True
        opened(waiting, head, "new-schema")
        opened(waiting, made_up, "made-up")
        world.signal(waiting, "added", {"amount": 1}, "behind")
        world.flush()
        wait_until(lambda: gate.events("inputs wait for a schema"), 30, "the gate says that inputs wait")
        world.signal(flowing, "added", {"amount": 1}, "other-partition")
        world.flush()
        wait_until(lambda: "other-partition" in reasons(), 30, "the other partition goes on")
        assert "behind" not in reasons()

        registry.out = False
        wait_until(lambda: "behind" in reasons(), 30, "inputs go on once it answers")
        assert reasons() == {
            "first": "NONE", "other-partition": "NONE", "new-schema": "NONE", "behind": "NONE",
            f"the registry does not know the schema id {number + 1_000}": "UNKNOWN_SCHEMA",
        }  # fmt: skip
        (told,) = gate.events("inputs wait for a schema")
        assert told["tasks"] == ["order-0"]
        assert registry.url in told["why"]
        assert gate.events("inputs wait for a schema no longer")
        assert "No difference" in world.placet("verify", **environment).stdout
        assert gate.terminate() == 0


def test_an_id_for_which_the_registry_always_fails_keeps_its_partition_until_it_counts_as_unknown(
    broker: Broker, tmp_path: Path
) -> None:
    with loopback_registry() as registry, World(broker.bootstrap_servers, tmp_path, "broken-id", partitions=2) as world:
        environment = {"PLACET_REGISTRY__URL": registry.url}
        world.placet("schemas", "register", str(DEFINITION), **environment)
        world.codec = Codec(world.definition, Registry(LocalHost(), registry.url).wire(world.app, "order"))
        broken = 1_000
        registry.broken.add(broken)
        waiting, flowing = (
            next(f"o-{n}" for n in range(99) if world.send_home(f"o-{n}".encode()) == p) for p in (0, 1)
        )

        def reasons() -> dict[str, str]:
            return {d.input_id or d.detail: d.reason.name for d, _ in world.decisions()}

        gate = world.gate("a", **environment)
        for entity, schema_id in ((waiting, broken), (flowing, broken + 1)):
            world.send(world.topics.signals, entity.encode(), confluent_head(schema_id) + b"a record")
            world.signal(entity, "opened", {"total": 1}, f"behind-{schema_id}")
        world.flush()
        wait_until(lambda: "behind-1001" in reasons(), 60, "an id that there is not keeps nothing")
        wait_until(lambda: gate.events("inputs wait for a schema"), 30, "the gate says that inputs wait")
        (told,) = gate.events("inputs wait for a schema")
        assert told["tasks"] == ["order-0"]
        assert told["why"].startswith(f"schema id {broken}: {registry.url}: ")
        assert "behind-1000" not in reasons()
        assert gate.terminate() == 0

        gate = world.gate("a", attempt=2, PLACET_REGISTRY__UNKNOWN_IDS=str(broken), **environment)
        wait_until(lambda: "behind-1000" in reasons(), 60, "the inputs behind it go on")
        assert reasons() == {
            "behind-1000": "NONE", "behind-1001": "NONE",
            "the registry does not know the schema id 1001": "UNKNOWN_SCHEMA",
            "schema id 1000 counts as unknown: PLACET_REGISTRY__UNKNOWN_IDS": "UNKNOWN_SCHEMA",
        }  # fmt: skip
        assert "No difference" in world.placet("verify", **environment).stdout
        assert gate.terminate() == 0
