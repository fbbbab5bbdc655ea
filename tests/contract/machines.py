"""Two machines for the same scenarios: one with the real database in a real folder, one that is simulated."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from random import Random
from resource import RLIMIT_FSIZE, getrlimit, setrlimit
from shutil import rmtree
from signal import SIGKILL
from typing import Protocol

from placet.simulation.choices import Choices
from placet.simulation.database import SimulatedEngine
from placet.simulation.disk import SimulatedDisk
from placet.simulation.scheduler import Crashed, Process
from placet.streams.state.rocksdb import RocksDBStore
from placet.streams.state.store import StateStore, Writes

__all__ = [
    "KEYS", "Machine", "RealMachine", "SimulatedMachine", "Step", "contents", "filled", "flip", "get_all", "write_much",
]  # fmt: skip

KEYS = [b"s%06d" % number for number in range(3_000)]
SMALL = 100_000
"""How large a file can grow on a full disk."""

Step = tuple[str, Writes]
"""`write`, `fill` (without the log; begins a filling, where none has begun), `end` (of the filling), or `close`."""


class Machine(Protocol):
    """A machine with one store's folder, `0`."""

    def open(self) -> RocksDBStore: ...

    def killed(self, steps: list[Step], records: int = 1) -> None:
        """Let another process take these steps, and then kill it."""
        ...

    def fill_up(self) -> None:
        """Let the disk be full, from now on."""
        ...

    def make_room(self) -> None: ...

    def damage(self) -> None:
        """Damage a store that was made by `filled`: its data, not what is read when it is opened."""
        ...

    def damage_what_opening_reads(self) -> None: ...

    def set_aside(self) -> None: ...

    def lose(self) -> None:
        """Let the folder vanish."""
        ...


class RealMachine:
    def __init__(self, folder: Path) -> None:
        self._folder = folder / "0"
        self._limits = getrlimit(RLIMIT_FSIZE)

    def open(self) -> RocksDBStore:
        return RocksDBStore(self._folder)

    def killed(self, steps: list[Step], records: int = 1) -> None:
        code = (
            f"from tests.contract.machines import take_and_die\ntake_and_die({str(self._folder)!r}, {steps}, {records})"
        )
        done = subprocess.run([sys.executable, "-c", code], check=False, cwd=Path(__file__).parents[2], timeout=60)
        assert done.returncode == -SIGKILL

    def fill_up(self) -> None:
        setrlimit(RLIMIT_FSIZE, (SMALL, self._limits[1]))

    def make_room(self) -> None:
        setrlimit(RLIMIT_FSIZE, self._limits)

    def damage(self) -> None:
        (file,) = (self._folder / "db").glob("*.sst")
        flip(file, 0, 0.8)

    def damage_what_opening_reads(self) -> None:
        (self._folder / "db" / "CURRENT").write_bytes(b"nothing that can be read")

    def set_aside(self) -> None:
        self._folder.rename(self._folder.with_suffix(".aside"))

    def lose(self) -> None:
        rmtree(self._folder)


class SimulatedMachine:
    def __init__(self, seed: int = 2) -> None:
        self.disk = SimulatedDisk(Choices(seed))
        self.process = Process("one")
        self._folder = Path("state/0")

    def open(self) -> RocksDBStore:
        return RocksDBStore(self._folder, SimulatedEngine(self.disk, self.process))

    def killed(self, steps: list[Step], records: int = 1) -> None:
        other = Process("another")
        filling = take(RocksDBStore(self._folder, SimulatedEngine(self.disk, other)), steps, records)
        other.dead = True
        with suppress(Crashed):
            filling.close()

    def fill_up(self) -> None:
        self.disk.refuse(errno.EFBIG)

    def make_room(self) -> None:
        self.disk.heal()

    def damage(self) -> None:
        self.disk.damage(self._folder, within=1, after=1)

    def damage_what_opening_reads(self) -> None:
        self.disk.damage(self._folder, within=1)

    def set_aside(self) -> None:
        self.disk.rename(self._folder, self._folder.with_suffix(".aside"))

    def lose(self) -> None:
        self.disk.lose(self._folder)


def take_and_die(folder: str, steps: list[Step], records: int) -> None:
    """What another process does."""
    _held = take(RocksDBStore(Path(folder)), steps, records)
    os.kill(os.getpid(), SIGKILL)


def take(store: RocksDBStore, steps: list[Step], records: int) -> ExitStack:
    """Take steps. What is returned keeps a filling that has not ended, and ends it when it is closed."""
    filling, fill = ExitStack(), None
    for name, writes in steps:
        if name == "fill":
            fill = fill or filling.enter_context(store.filling(records))
            fill(writes)
        elif name == "end":
            filling.close()
            fill = None
        elif name == "close":
            store.close()
        else:
            store.write(writes)
    return filling


def contents(machine: Machine) -> list[tuple[bytes, bytes]]:
    """Open the store, and return all that is in it."""
    store = machine.open()
    found = store.scan(b"", b"", 99_999)
    store.close()
    return found


def filled(machine: Machine) -> None:
    """Close a store whose values are on disk, in one file."""
    store, random = machine.open(), Random(1)
    store.write({key: random.randbytes(200) for key in KEYS})
    store.close()


def write_much(write: Callable[[Writes], None]) -> None:
    """More than four files of it: then RocksDB compacts."""
    random = Random(3)
    for _ in range(40):
        write({key: random.randbytes(2_000) for key in KEYS})


def get_all(store: StateStore) -> None:
    for key in KEYS:
        store.get(key)


def flip(file: Path, begin: float, end: float, bits: int = 64) -> None:
    """Flip bits in a part of a file, in place, as a failing disk does."""
    data, random = bytearray(file.read_bytes()), Random(2)
    for _ in range(bits):
        data[random.randrange(int(len(data) * begin), int(len(data) * end))] ^= 1 << random.randrange(8)
    with file.open("r+b") as out:
        out.write(data)
