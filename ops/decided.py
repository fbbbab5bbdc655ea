"""Digests of what this build of Placet writes: builds that agree print the same lines. `ops/compiled` compares two.

    python -m ops.decided 2000 40       2,000 mutated inputs and those that they were made of, 40 simulated histories

Three kinds of lines: every golden record; inputs of two definitions, decided by a task in batches (all records of each
transaction, headers included, and the store afterwards); histories of whole gates by seed.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from hashlib import blake2b
from pathlib import Path
from random import Random
from typing import Any, Final

from bench.workload import DEFINITION, mixed
from placet.definitions import load_definition
from placet.processors.machine import compile_machine
from placet.processors.rules import Rules
from placet.schemas.codec.codec import Codec
from placet.schemas.messages import Kind, Message
from placet.streams.loop.task import Task
from placet.streams.records import ConsumerRecord
from placet.streams.state.store import MemoryStore
from placet.streams.topology import EntityTopics, TaskId, entity_topics
from tests.golden import samples
from tests.simulation.histories import run_history

NOW_MS: Final = 1_800_000_000_000
BATCH: Final = 250
HEADERS: Final[tuple[Any, ...]] = (None, None, [], [("traceparent", b"00-1")], [("other", None)])
PARCEL: Final = Path(samples.__file__).with_name("parcel.yaml")


def digest(*parts: object) -> str:
    return blake2b(repr(parts).encode(), digest_size=12).hexdigest()


def golden() -> Iterator[str]:
    for name, found in (samples.golden() | samples.golden_schemas()).items():
        yield f"golden {name} {digest(found)}"


def machines(count: int, topics: EntityTopics) -> Iterator[tuple[str, bytes, bytes]]:
    """Proposals of the bench: changes, repeats, and what comes too late or is stale."""
    for each in mixed(count, count // 10, NOW_MS, lambda _share: None).inputs:
        yield topics.proposals, each.key, each.value


def parcels(count: int, topics: EntityTopics) -> Iterator[tuple[str, bytes, bytes]]:
    """Signals and proposals with a field of every type."""
    random, codec = Random(11), Codec(load_definition(PARCEL))
    changes: Counter[str] = Counter()
    for number in range(count):
        entity = f"parcel-{random.randrange(count // 20)}"
        name = random.choice((*["scanned", "weighed"] * 5, *["re_route_2"] * 9, "give_up"))
        changes[entity] += name == "scanned"
        kind = Kind.SIGNAL if name in ("scanned", "weighed") else Kind.PROPOSAL
        issued_at = NOW_MS - random.randrange(100)
        message = Message(
            kind, name, f"input-{number}", entity, payload(random, name), issued_at, issued_at,
            f"occasion-{random.randrange(count)}", None, random.choice((None, NOW_MS, NOW_MS - 1, NOW_MS + 9)),
            changes[entity] if kind is Kind.PROPOSAL else 0,
        )  # fmt: skip
        topic = topics.signals if kind is Kind.SIGNAL else topics.proposals
        yield topic, entity.encode(), codec.encode_message(message)


def payload(random: Random, name: str) -> dict[str, Any]:
    number = random.randrange(-(2**31), 2**31)
    match name:
        case "scanned":
            return {"place": f"Köln {number}", "weight_g": number, "scans": number * 2**31, "due": None}
        case "weighed":
            return {"weight_g": random.randrange(3)}
        case "re_route_2":
            return {
                "place": random.choice(("Łódź", "")), "risk": number / 7, "fragile": number > 0,
                "fee": Decimal(number).scaleb(-2), "labels": ["ü"] * random.randrange(3),
                "dimensions_mm": {str(side): side for side in random.sample(range(9), 3)},
                "note": random.choice((None, "n" * random.randrange(200))), "due": NOW_MS + number,
            }  # fmt: skip
        case _:
            return {}


def mutated(random: Random, value: bytes) -> bytes | None:
    """Change up to three places, cut, or leave nothing at all."""
    data = bytearray(value)
    for _ in range(random.choice((1, 1, 2, 3))):
        place, how = random.randrange(len(data) or 1), random.random()
        if how < 0.6 and data:
            data[place] = random.choice((0, 1, 2, 127, 128, 255, random.randrange(256)))
        elif how < 0.8:
            data.insert(place, random.randrange(256))
        elif how < 0.97:
            del data[place : place + random.choice((1, 2, 200))]
        else:
            return None
    return bytes(data)


def with_mutants(log: Iterator[tuple[str, bytes, bytes]], random: Random) -> Iterator[tuple[str, bytes, bytes | None]]:
    """Each input, and behind it one that was made of it."""
    for topic, key, value in log:
        yield topic, key, value
        yield topic, key if random.random() < 0.97 else key[1:], mutated(random, value)


def inputs(definition: Path, count: int) -> Iterator[str]:
    rules = load_definition(definition)
    topics, store, random = entity_topics("app", rules.entity), MemoryStore(), Random(5)
    task = Task(TaskId(rules.entity, 0), topics, "dead-letters", Rules(compile_machine(rules), Codec(rules)), store, 1)
    task.open(None, dict.fromkeys(topics.inputs, 0), None)
    made = (machines if definition == DEFINITION else parcels)(count, topics)
    log = [
        ConsumerRecord(topic, 0, offset, NOW_MS + offset // 10, key, value, random.choice(HEADERS))
        for offset, (topic, key, value) in enumerate(with_mutants(made, random))
    ]
    given: Counter[str] = Counter()
    for begin in range(0, len(log), BATCH):
        written, taken = [], log[begin : begin + BATCH]
        while taken or task.left:
            written += task.process(taken, NOW_MS, NOW_MS)
            given.update({reason.name: many for (_, _, reason), many in task.counts.items()})
            task.committed({topics.changelog: begin})
            task.asking.go_on(task.next_positions, frozenset())  # nobody knows the schemas of inputs that were changed
            taken = []
        yield f"inputs {rules.entity} {begin} {digest(written)}"
    yield f"store {rules.entity} {digest(store.scan(b'', b'', sys.maxsize))}"
    yield f"reasons {rules.entity} {', '.join(f'{many} {name}' for name, many in sorted(given.items()))}"


def histories(count: int) -> Iterator[str]:
    for seed in range(1, count + 1):
        kind = "standard" if seed % 5 == 0 else "small"
        yield f"history {kind} {seed} {run_history(kind, seed).digest}"


def main() -> None:
    """Print the lines."""
    count, seeds = map(int, sys.argv[1:])
    for lines in (golden(), inputs(DEFINITION, count // 2), inputs(PARCEL, count // 2), histories(seeds)):
        for line in lines:
            print(line)


if __name__ == "__main__":
    main()
