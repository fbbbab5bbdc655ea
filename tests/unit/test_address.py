"""Where a key belongs: as Kafka's Java client says."""

from __future__ import annotations

import unicodedata
from collections import Counter

import pytest

from placet.processors.address import Place, address_error, murmur2, partition_of
from placet.schemas.decision import Reason

# org.apache.kafka.common.utils.UtilsTest.testMurmur2; Java's ints are signed.
JAVA = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}


@pytest.mark.parametrize(("key", "signed"), JAVA.items())
def test_murmur2_is_javas(key: bytes, signed: int) -> None:
    assert murmur2(key) == signed & 0xFFFFFFFF


@pytest.mark.parametrize(("key", "signed"), JAVA.items())
def test_the_partition_is_javas(key: bytes, signed: int) -> None:
    """BuiltInPartitioner.partitionForKey: Utils.toPositive(murmur2(key)) % partitions."""
    for partitions in (1, 3, 12, 1000):
        assert partition_of(key, partitions) == (signed & 0x7FFFFFFF) % partitions


def test_every_length_has_a_partition_and_keys_are_spread() -> None:
    assert murmur2(b"") == 275646681  # murmur2 of nothing, seed 0x9747b28c
    spread = Counter(partition_of(f"order-{number}".encode(), 8) for number in range(8_000))
    assert set(spread) == set(range(8))
    assert min(spread.values()) > 800


def test_a_record_is_where_its_entity_is() -> None:
    home = partition_of(b"order-1", 4)
    assert address_error(b"order-1", "order-1", Place(home, 4)) is None
    strays = [(b"order-1", "order-1", (home + 1) % 4), (b"order-1", "order-2", home), (None, "order-1", 0)]
    found = [address_error(key, entity, Place(partition, 4)) for key, entity, partition in strays]
    assert [refusal and refusal.reason for refusal in found] == [
        Reason.WRONG_PARTITION,
        Reason.KEY_MISMATCH,
        Reason.KEY_MISMATCH,
    ]


def test_ids_that_look_the_same_are_two_entities() -> None:
    """Bytes are compared, so that every language finds the same owner: nobody has to know Unicode's tables."""
    composed, decomposed = (
        unicodedata.normalize(form, "caf\N{LATIN SMALL LETTER E WITH ACUTE}") for form in ("NFC", "NFD")
    )
    home = partition_of(composed.encode(), 4)
    found = address_error(composed.encode(), decomposed, Place(home, 4))
    assert found is not None
    assert found.reason is Reason.KEY_MISMATCH


def test_ids_are_any_unicode() -> None:
    entity = "bestellung-ä-注文"
    assert address_error(entity.encode(), entity, Place(partition_of(entity.encode(), 5), 5)) is None
