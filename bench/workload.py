"""The workload: 70 % acceptable proposals, 10 % each repeated, expired and stale, always the same for the same numbers.

Made before anything is measured, and checked afterwards: the gate must give exactly the outcomes that are expected.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import NamedTuple

from placet.definitions import load_definition
from placet.processors.address import partition_of
from placet.schemas.codec.codec import Codec
from placet.schemas.decision import Reason
from placet.schemas.messages import Kind, Message, Value

DEFINITION = Path(__file__).with_name("machine.yaml")
PARTITIONS = 4
VALID_FOR_MS = 3_600_000
"""Of a proposal that does not say until when: as in the definition, for those who do not read it."""


class Input(NamedTuple):
    """One proposal, ready to be produced."""

    partition: int
    key: bytes
    value: bytes


class Workload(NamedTuple):
    """Proposals in order, how many decisions of each reason they must give, and until when they were issued."""

    inputs: list[Input]
    expected: Counter[str]
    now_ms: int


class Proposals:
    """Makes proposals of the bench's definition."""

    def __init__(self) -> None:
        self.codec = Codec(load_definition(DEFINITION))

    def escalate(self, number: int, entity: str, version: int, now_ms: int, key: str, reading: int = 0) -> Input:
        """One proposal; its number makes it a change."""
        payload: dict[str, Value] = {"severity": 3, "reason": "sensor trend", "reading": reading or number}
        message = Message(
            Kind.PROPOSAL, "escalate", f"p-{number:012d}", entity, payload, now_ms, now_ms, key,
            valid_until=now_ms - 1 if key.startswith("x") else None, base_version=version, proposer="agent-7",
        )  # fmt: skip
        data = entity.encode()
        return Input(partition_of(data, PARTITIONS), data, self.codec.encode_message(message))


def mixed(records: int, entities: int, now_ms: int, progress: Callable[[float], None], seed: int = 7) -> Workload:
    """Make the mix: what an agent's retries, slowness and old knowledge look like.

    Args:
        records: how many proposals.
        entities: over how many entities, uniformly.
        now_ms: issued up to now, 100 in each ms.
        progress: is told which share is made.
        seed: of the mix.
    """
    random, proposals = Random(seed), Proposals()
    versions: dict[str, int] = {}
    applied: list[tuple[int, str, int, str]] = []
    expected: Counter[str] = Counter()

    def one(number: int) -> Input:
        at, what = now_ms - (records - number) // 100, random.random()
        if what < 0.1 and applied:
            first, entity, version, key = random.choice(applied)
            expected[Reason.REPEATED.name] += 1
            return proposals.escalate(number, entity, version, at, key, first)
        if what < 0.2:
            expected[Reason.EXPIRED.name] += 1
            entity = f"e-{random.randrange(entities):08d}"
            return proposals.escalate(number, entity, versions.get(entity, 0), at, f"x-{number:012d}")
        if what < 0.3 and applied:
            expected[Reason.STALE.name] += 1
            entity = random.choice(applied)[1]
            return proposals.escalate(number, entity, versions[entity] - 1, at, f"d-{number:012d}")
        expected[Reason.NONE.name] += 1
        entity, key = f"e-{random.randrange(entities):08d}", f"d-{number:012d}"
        version = versions.get(entity, 0)
        versions[entity] = version + 1
        applied.append((number, entity, version, key))
        return proposals.escalate(number, entity, version, at, key)

    inputs = []
    for number in range(1, records + 1):
        inputs.append(one(number))
        if not number % 1_000:
            progress(number / records)
    return Workload(inputs, expected, now_ms)


def each_once(entities: int, now_ms: int) -> Iterator[Input]:
    """One acceptable proposal for each entity, in a scattered order."""
    proposals = Proposals()
    for number in range(1, entities + 1):
        entity = f"e-{number * 7_919 % entities:08d}"
        yield proposals.escalate(number, entity, 0, now_ms, f"d-{number:012d}")
