"""How much one poll takes out of the client's queue: it is held in memory at once."""

from __future__ import annotations

from typing import cast

import pytest
from confluent_kafka import Consumer

from placet.streams.kafka.poll_errors import what_is_there

MIB = 1 << 20


class Queue:
    """What a client has fetched. Of a message only its size is asked for."""

    def __init__(self, sizes: list[int]) -> None:
        self._messages = [bytes(size) for size in sizes]

    def consume(self, most: int, timeout_s: float) -> list[bytes]:
        assert timeout_s == 0
        taken, self._messages = self._messages[:most], self._messages[most:]
        return taken


@pytest.mark.parametrize(
    ("sizes", "records_max", "taken"),
    [
        ([], 4_000, 0),
        ([100] * 5_000, 4_000, 4_000),
        ([100] * 250, 4_000, 250),
        ([MIB // 10] * 3_000, 4_000, 200),
        ([0] * 5_000, 4_999, 4_999),
        ([10 * MIB, 1], 1, 1),
    ],
)
def test_it_ends_at_so_many_records_or_some_mib(sizes: list[int], records_max: int, taken: int) -> None:
    assert len(what_is_there(cast("Consumer", Queue(sizes)), records_max)) == taken


def test_what_was_not_taken_comes_next_and_in_order() -> None:
    sizes = [MIB - number for number in range(1_000)]
    queue = cast("Consumer", Queue(sizes))
    found: list[int] = []
    while some := what_is_there(queue, 4_000):
        found += [len(message) for message in some]
    assert found == sizes
