"""What every state store promises, whatever it is made of; and what RocksDB promises beyond, real or simulated."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from random import Random

import pytest

from placet.streams.errors import FatalError
from placet.streams.state.rocksdb import RocksDBStore
from placet.streams.state.store import MemoryStore, StateStore, StoreDamaged, StoreLocked
from tests.contract.machines import Machine, RealMachine, SimulatedMachine, Step, contents


@pytest.fixture(params=["memory", "rocksdb", "simulated"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StateStore]:
    machines = {"rocksdb": RealMachine(tmp_path), "simulated": SimulatedMachine()}
    store = MemoryStore() if request.param == "memory" else machines[request.param].open()
    yield store
    store.close()


@pytest.fixture(params=["rocksdb", "simulated"])
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Machine]:
    machine = RealMachine(tmp_path) if request.param == "rocksdb" else SimulatedMachine()
    yield machine
    machine.make_room()


def test_what_was_never_written_is_not_there(store: StateStore) -> None:
    assert store.get(b"a") is None
    assert store.scan(b"", b"", 10) == []


def test_what_was_written_is_there_until_it_is_deleted(store: StateStore) -> None:
    store.write({b"a": b"1", b"b": b"2"})
    store.write({b"a": b"3", b"c": b"", b"never": None})
    assert [store.get(key) for key in (b"a", b"b", b"c", b"never")] == [b"3", b"2", b"", None]
    store.write({b"b": None})
    assert store.get(b"b") is None
    assert store.scan(b"", b"", 10) == [(b"a", b"3"), (b"c", b"")]


def test_keys_and_values_are_any_bytes(store: StateStore) -> None:
    writes = {b"\x00": b"\xff" * 3, b"\xff\xff": b"\x00", b"k" * 70_000: b"v" * 1_000_000, b"": b"empty key"}
    store.write(writes)
    assert {key: store.get(key) for key in writes} == writes


def test_a_scan_goes_in_order_of_the_bytes_within_the_prefix(store: StateStore) -> None:
    keys = [b"d\x00", b"d", b"d\xff", b"dz", b"da", b"e", b"c\xff", b"d\xff\xff"]
    store.write(dict.fromkeys(keys, b"x"))
    found = [key for key, _ in store.scan(b"d", b"d", 100)]
    assert found == [b"d", b"d\x00", b"da", b"dz", b"d\xff", b"d\xff\xff"]


@pytest.mark.parametrize(
    ("start", "limit", "expected"),
    [
        (b"d", 2, [b"da", b"db"]),
        (b"db", 2, [b"db", b"dc"]),
        (b"db\x00", 2, [b"dc", b"dd"]),
        (b"dc", 100, [b"dc", b"dd"]),
        (b"dd\x00", 100, []),
        (b"e", 100, []),
        (b"a", 1, [b"da"]),
        (b"d", 0, []),
    ],
)
def test_a_scan_starts_where_it_is_told_and_ends_at_its_limit(
    store: StateStore, start: bytes, limit: int, expected: list[bytes]
) -> None:
    store.write({b"c": b"", b"da": b"", b"db": b"", b"dc": b"", b"dd": b"", b"e": b""})
    assert [key for key, _ in store.scan(b"d", start, limit)] == expected


def test_a_scan_sees_what_was_written_and_deleted_last(store: StateStore) -> None:
    store.write({b"a": b"1", b"b": b"1"})
    store.write({b"a": None, b"b": b"2", b"c": b"3"})
    assert store.scan(b"", b"", 10) == [(b"b", b"2"), (b"c", b"3")]


@pytest.mark.parametrize("records", [1, 1_000_000])
def test_what_filled_it_is_there_among_what_was_written(store: StateStore, records: int) -> None:
    store.write({b"a": b"1", b"b": b"1", b"c": b"1"})
    with store.filling(records) as write:
        write({b"a": b"2", b"b": None, b"d": b"2"})
        write({b"a": b"3", b"never": None})
    store.write({b"d": b"4"})
    assert store.scan(b"", b"", 10) == [(b"a", b"3"), (b"c", b"1"), (b"d", b"4")]


@pytest.mark.parametrize("records", [1, 1_000_000])
def test_a_filling_that_is_given_up_leaves_a_store_that_works(store: StateStore, records: int) -> None:
    with suppress(ZeroDivisionError), store.filling(records) as write:
        write({b"a": b"1"})
        raise ZeroDivisionError
    store.write({b"b": b"2"})
    assert [store.get(key) for key in (b"a", b"b")] == [b"1", b"2"]


def test_a_look_reads_little_however_many_keys_there_are(tmp_path: Path) -> None:
    keys, random = 600_000, Random(1)
    store = RocksDBStore(tmp_path)
    with store.filling(keys) as write:
        for begin in range(0, keys, 10_000):  # in no order, so that the files overlap
            write({b"%08d" % (key * 7_919 % keys): random.randbytes(60) for key in range(begin, begin + 10_000)})
    store.clean(1)  # merges them to one
    looks = [b"%08d%s" % (key, suffix) for key in range(0, keys, 1_000) for suffix in (b"", b"-absent")]
    before = _bytes_read()
    found = [store.get(look) is not None for look in looks]
    assert found == [True, False] * (len(looks) // 2)
    assert (_bytes_read() - before) / len(looks) < 16_384, "a whole index or filter is read for each look"
    store.close()


def _bytes_read() -> int:
    """By this thread, from the page cache too."""
    return int(Path("/proc/thread-self/io").read_text().split()[1])


def test_a_key_that_is_deleted_and_comes_back_is_found_once(store: StateStore) -> None:
    store.write({b"a": b"1", b"b": b"1", b"c": b"1"})
    assert len(store.scan(b"", b"", 10)) == 3
    store.write({b"b": None, b"never": None})
    store.write({b"b": b"2", b"c": None})
    store.write({b"c": b"3"})
    store.write({b"c": None})
    assert store.scan(b"", b"", 10) == [(b"a", b"1"), (b"b", b"2")]
    assert store.scan(b"", b"b", 1) == [(b"b", b"2")]


def test_what_is_done_to_a_batch_afterwards_is_not_in_it(store: StateStore) -> None:
    writes: dict[bytes, bytes | None] = {b"a": b"1"}
    store.write(writes)
    writes[b"a"] = b"2"
    with store.filling(1) as write:
        write(writes)
        writes[b"b"] = b"2"
    assert store.scan(b"", b"", 10) == [(b"a", b"2")]


@pytest.mark.parametrize("seed", range(5))
def test_the_same_calls_find_the_same_whatever_it_is_made_of(seed: int, tmp_path: Path) -> None:
    told = [_told(Random(seed), machine) for machine in (RealMachine(tmp_path), SimulatedMachine())]
    assert told[0] == told[1]


def _told(random: Random, machine: Machine) -> list[object]:
    """What a store answers to any calls, closed and opened now and then."""

    def key() -> bytes:
        return random.choice([b"s", b"t", b"t\xff"]) + b"%02d" % random.randrange(30)

    def writes() -> dict[bytes, bytes | None]:
        return {key(): random.choice([None, b"", b"%d" % random.randrange(99)]) for _ in range(random.randrange(8))}

    store, told = machine.open(), list[object]()
    for _ in range(300):
        call = random.choices(["write", "get", "scan", "fill", "open"], [8, 8, 8, 1, 1])[0]
        if call == "write":
            store.write(writes())
        elif call == "get":
            told.append(store.get(key()))
        elif call == "scan":
            told.append(store.scan(random.choice([b"", b"s", b"t", b"u"]), key(), random.randrange(12)))
        elif call == "fill":
            with store.filling(random.choice([1, 1_000_000])) as write:
                for _ in range(random.randrange(4)):
                    write(writes())
        else:
            store.close()
            store = machine.open()
    store.close()
    return told


# RocksDB, real or simulated -------------------------------------------------------------------------------------------


def test_what_was_written_is_there_after_opening_again(machine: Machine) -> None:
    store = machine.open()
    store.write({b"a": b"1", b"b": b"2"})
    store.write({b"b": None})
    store.close()
    assert contents(machine) == [(b"a", b"1")]


WRITES: list[Step] = [("write", {b"a": b"1", b"b": b"1"}), ("write", {b"a": b"2", b"b": None}), ("write", {b"c": b"3"})]
FILLS: list[Step] = [("fill", writes) for _, writes in WRITES]
AFTER: list[list[tuple[bytes, bytes]]] = [
    [],
    [(b"a", b"1"), (b"b", b"1")],
    [(b"a", b"2")],
    [(b"a", b"2"), (b"c", b"3")],
]
"""What is there after none, one, two and all of them."""


@pytest.mark.parametrize("records", [1, 1_000_000])
@pytest.mark.parametrize("steps", [WRITES, [*FILLS, ("end", {})], [*FILLS, ("end", {}), ("close", {})]])
def test_a_death_takes_nothing_that_was_written_or_filled_to_the_end(
    machine: Machine, steps: list[Step], records: int
) -> None:
    machine.killed(steps, records)
    assert contents(machine) == AFTER[3]


@pytest.mark.parametrize("records", [1, 1_000_000])
def test_a_death_while_it_is_filled_takes_what_came_last(tmp_path: Path, records: int) -> None:
    real = RealMachine(tmp_path)
    real.killed(FILLS, records)
    assert contents(real) in AFTER
    found = []
    for seed in range(30):
        machine = SimulatedMachine(seed)
        machine.killed(FILLS, records)
        found.append(contents(machine))
        assert contents(machine) == found[-1], "what a death took does not come back"
    assert sorted(found) == sorted([after for after in AFTER for _ in range(found.count(after))])
    assert all(after in found for after in AFTER)


def test_a_death_takes_what_was_filled_and_leaves_what_was_written_meanwhile(tmp_path: Path) -> None:
    """So a store is not written while it is filled: what is in the log comes back without what came before it."""
    steps: list[Step] = [("fill", {b"a": b"1"}), ("write", {b"b": b"1"}), ("fill", {b"b": b"2"})]
    found = []
    for seed in range(30):
        machine = SimulatedMachine(seed)
        machine.killed(steps)
        found.append(contents(machine))
    real = RealMachine(tmp_path)
    real.killed(steps)
    assert contents(real) == [(b"b", b"1")]
    assert [(b"b", b"1")] in found
    assert {str(one) for one in found} == {
        str(one)
        for one in ([(b"b", b"1")], [(b"a", b"1"), (b"b", b"1")], [(b"a", b"1"), (b"b", b"2")])
    }  # fmt: skip


def test_a_lock_keeps_others_out_and_goes_with_its_owner(machine: Machine) -> None:
    first = machine.open()
    for _ in range(2):
        with pytest.raises(StoreLocked, match="0 is in use by another process"):
            machine.open()
    first.write({b"a": b"1"})
    first.close()
    machine.killed([("write", {b"b": b"2"})])
    assert contents(machine) == [(b"a", b"1"), (b"b", b"2")]


def test_on_a_full_disk_it_reads_and_does_not_write_until_it_is_opened_again(machine: Machine) -> None:
    store = machine.open()
    store.write({b"a": b"1"})
    machine.fill_up()
    for _ in range(2):
        with pytest.raises(FatalError, match=r"0 can't be written: IO error: .*File too large.*make room"):
            store.write({b"b": os.urandom(200_000), b"a": None})
        assert store.scan(b"", b"", 9) == [(b"a", b"1")]
        assert store.get(b"a") == b"1"
        machine.make_room()
    with pytest.raises(FatalError, match=r"0 can't be written: IO error: .*File too large.*make room"):
        store.write({b"c": b"3"})
    store.close()
    assert contents(machine) == [(b"a", b"1")]


@pytest.mark.parametrize("records", [1, 1_000_000])
def test_a_disk_that_is_full_while_it_is_filled_is_named(machine: Machine, records: int) -> None:
    store = machine.open()
    filling = store.filling(records)
    write = filling.__enter__()
    machine.fill_up()
    with pytest.raises(FatalError, match=r"0 can't be written: IO error: .*File too large.*make room"):  # noqa: PT012
        write({b"a": os.urandom(200_000)})
        filling.__exit__(None, None, None)
    store.close()
    machine.make_room()
    assert [len(value) for _, value in contents(machine)] in ([], [200_000])


@pytest.mark.parametrize("records", [1, 1_000_000])
def test_a_folder_that_vanishes_is_met_when_a_filling_ends(machine: Machine, records: int) -> None:
    store = machine.open()
    filling = store.filling(records)
    filling.__enter__()({b"a": b"1"})
    machine.lose()
    with pytest.raises(StoreDamaged, match="0: IO error: No such file or directory: While open a file for appending"):
        filling.__exit__(None, None, None)
    store.close()
    assert contents(machine) == []


def test_a_folder_that_vanishes_stays_locked_within_its_process_and_is_written_until_a_file_is_full(
    machine: Machine,
) -> None:
    store = machine.open()
    store.write({b"a": b"1"})
    machine.lose()
    store.write({b"b": b"2"})
    assert store.scan(b"", b"", 9) == [(b"a", b"1"), (b"b", b"2")]
    with pytest.raises(StoreDamaged, match="0: IO error: lock hold by current process"):
        machine.open()
    store.close()


# The real RocksDB -----------------------------------------------------------------------------------------------------


def test_opened_again_it_has_the_same_filter_and_memory(tmp_path: Path) -> None:
    """rocksdict opens an existing database as the database's own file says, which can't name a cache or a filter."""
    for _ in range(3):
        RocksDBStore(tmp_path / "0").close()
        newest = max((tmp_path / "0" / "db").glob("OPTIONS-*")).read_text()
        assert "filter_policy=bloomfilter" in newest
        assert "memtable_factory=SkipListFactory" in newest
    store = RocksDBStore(tmp_path / "0")
    with store.filling(1_000_000):
        assert "VectorRepFactory" in max((tmp_path / "0" / "db").glob("OPTIONS-*")).read_text()
    assert "filter_policy=bloomfilter" in max((tmp_path / "0" / "db").glob("OPTIONS-*")).read_text()
    store.close()


WRITE_FOR_EVER = """
import sys
from itertools import count
from pathlib import Path
from placet.streams.state.rocksdb import RocksDBStore
store = RocksDBStore(Path(sys.argv[1]))
for number in count():
    store.write({b"%d" % key: b"%d" % number for key in range(100)})
    print(number, flush=True)
"""


def test_a_killed_process_leaves_whole_batches_and_all_that_it_was_told_are_written(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WRITE_FOR_EVER, str(tmp_path / "0")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        told = [int(process.stdout.readline()) for _ in range(50)]
        process.kill()
    store = RocksDBStore(tmp_path / "0")
    values = {int(store.get(b"%d" % key) or -1) for key in range(100)}
    store.close()
    assert len(values) == 1
    assert values.pop() >= told[-1]


FILL_FOR_EVER = """
import sys
from itertools import count
from pathlib import Path
from placet.streams.state.rocksdb import RocksDBStore
store = RocksDBStore(Path(sys.argv[1]))
with store.filling(int(sys.argv[2])) as write:
    for number in count():
        write({b"%d" % key: (b"%09d" % number) * 1_000 for key in range(100)})
        print(number, flush=True)
"""


@pytest.mark.parametrize("records", [1, 1_000_000])
def test_a_process_killed_while_it_fills_leaves_whole_batches_in_order(tmp_path: Path, records: int) -> None:
    command = [sys.executable, "-c", FILL_FOR_EVER, str(tmp_path / "0"), str(records)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        for _ in range(100):  # 90 MB: some of it is on disk by then
            process.stdout.readline()
        process.kill()
    store = RocksDBStore(tmp_path / "0")
    values = {int((store.get(b"%d" % key) or b"-1")[:9]) for key in range(100)}
    assert len(values) == 1
    assert values.pop() > 0
    store.write({b"0": b"goes on"})
    store.close()


def test_a_second_opener_is_refused_without_harm(tmp_path: Path) -> None:
    first = RocksDBStore(tmp_path / "0")
    first.write({b"a": b"1"})
    before = _files(tmp_path)
    for _ in range(3):
        with pytest.raises(StoreLocked, match="in use"):
            RocksDBStore(tmp_path / "0")
    assert _files(tmp_path) == before
    first.write({b"a": b"2"})
    assert first.get(b"a") == b"2"
    first.close()
    second = RocksDBStore(tmp_path / "0")
    assert second.get(b"a") == b"2"
    second.close()


def test_a_use_after_the_close_is_a_bug_and_no_damage(tmp_path: Path) -> None:
    store = RocksDBStore(tmp_path / "0")
    store.close()
    for use in (lambda: store.get(b"a"), lambda: store.write({}), lambda: store.scan(b"", b"", 1)):
        with pytest.raises(AttributeError):
            use()


def _files(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_while_it_is_filled_no_one_else_gets_in(tmp_path: Path) -> None:
    store = RocksDBStore(tmp_path / "0")
    with store.filling(1_000_000) as write:
        write({b"a": b"1"})
        with pytest.raises(StoreLocked, match="in use"):
            RocksDBStore(tmp_path / "0")
    store.close()


def test_what_can_not_be_opened_after_filling_is_damaged_and_lets_go(tmp_path: Path) -> None:
    store = RocksDBStore(tmp_path / "0")
    filling = store.filling(1_000_000)
    filling.__enter__()({b"a": b"1"})
    (tmp_path / "0" / "db" / "CURRENT").write_bytes(b"nothing that can be read")
    with pytest.raises(StoreDamaged, match="0"):
        filling.__exit__(None, None, None)
    store.close()
    with pytest.raises(StoreDamaged, match="0"):  # and not StoreLocked
        RocksDBStore(tmp_path / "0")


@pytest.mark.parametrize("damage", ["manifest", "current", "log"])
def test_a_damaged_folder_is_reported(tmp_path: Path, damage: str) -> None:
    store = RocksDBStore(tmp_path / "0")
    for number in range(100):
        store.write({b"%d" % number: b"x" * 1_000})
    store.close()
    found = {"manifest": "MANIFEST-*", "current": "CURRENT", "log": "*.sst"}[damage]
    victims = [path for path in (tmp_path / "0" / "db").glob(found) if path.stat().st_size]
    assert victims, "nothing to damage"
    for path in victims:
        path.write_bytes(b"\x00" * path.stat().st_size)
    with pytest.raises(StoreDamaged, match="0"):
        _read_all(tmp_path / "0")
    with pytest.raises(StoreDamaged, match="0"):  # it did not stay locked
        _read_all(tmp_path / "0")


def _read_all(folder: Path) -> None:
    store = RocksDBStore(folder)
    try:
        store.scan(b"", b"", 1_000)
    finally:
        store.close()


def test_a_folder_of_something_else_is_reported(tmp_path: Path) -> None:
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / "db").write_text("not a folder")
    with pytest.raises(StoreDamaged):
        RocksDBStore(tmp_path / "0")
