"""A disk that answers with EIO, under the real database: a seccomp filter lets the process's own calls fail.

Run as a program, for the filter can't be taken back: `python -m tests.contract.failing_disk FOLDER KIND`. It fills a
store, lets calls of a kind fail, and prints what each call of the store then says.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from placet.streams.state.rocksdb import RocksDBStore
from tests.contract.machines import KEYS, RealMachine, filled, get_all

__all__ = ["calls_of", "told"]

_NUMBERS: Final[dict[str, dict[str, int]]] = {
    "x86_64": {"seccomp": 317, "pread64": 17, "write": 1, "openat": 257},
    "aarch64": {"seccomp": 277, "pread64": 67, "write": 64, "openat": 56},
}
_PR_SET_NO_NEW_PRIVS, _SET_MODE_FILTER, _ALL_THREADS = 38, 1, 1
_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _FAIL_WITH_EIO = 0x7FFF0000, 0x00050005


def calls_of(store: RocksDBStore) -> dict[str, Callable[[], object]]:
    """Return each call of a store, under its name."""

    def fill() -> None:
        with store.filling(1_000_000) as write:
            write({b"f": b""})

    return {
        "get": lambda: get_all(store),
        "scan": lambda: store.scan(b"", b"", len(KEYS)),
        "write": lambda: store.write({b"w": b""}),
        "clean": lambda: store.clean(1_000),
        "fill": fill,
    }


def told(calls: dict[str, Callable[[], object]]) -> dict[str, str]:
    """Make each call, and return what it raised."""
    found = {}
    for name, call in calls.items():
        try:
            call()
            found[name] = ""
        except Exception as error:  # noqa: BLE001 - it is compared
            found[name] = f"{type(error).__name__}: {error}"
    return found


def _fail(number: int) -> None:
    """Let a system call fail with EIO from now on, in all threads."""
    steps = [(_LOAD, 0, 0, 0), (_JUMP_IF_EQUAL, 1, 0, number), (_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _FAIL_WITH_EIO)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(steps), ctypes.addressof(code)))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if libc.syscall(_NUMBERS[platform.machine()]["seccomp"], _SET_MODE_FILTER, _ALL_THREADS, program):
        raise OSError(ctypes.get_errno(), "no filter can be set")


def main(folder: Path, kind: str) -> None:
    machine = RealMachine(folder)
    filled(machine)
    store = machine.open()
    _fail(_NUMBERS[platform.machine()][kind])
    found = told(calls_of(store))
    store.close()
    found |= told({"open": machine.open})
    os.writev(1, [f"{name}={said.splitlines()[0] if said else ''}\n".encode() for name, said in found.items()])
    os._exit(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
