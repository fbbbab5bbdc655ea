"""The folder of an embedded broker: whose it is, whether a broker runs there, and why one did not.

Who runs in a folder holds an flock on it that Java inherits, so that "is it running?" is answered by the kernel: it
is true as long as Java lives, however that ends, and a recycled process id fools no one.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from placet.devbroker.jars import KAFKA_VERSION
from placet.devbroker.settings import HOST
from placet.schemas.errors import SettingsError

__all__ = [
    "BrokerStatus",
    "Stamp",
    "check",
    "default_data_dir",
    "is_formatted",
    "last_words",
    "lock",
    "read_pid",
    "reason",
    "status",
    "stop",
    "write",
    "writing",
]

STAMP, LOCK, PID = "placet-broker.json", "placet-broker.lock", "placet-broker.pid"
PROPERTIES, LOG, DATA = "server.properties", "broker.log", "kafka"
FORMATTED = "meta.properties"  # Kafka writes it among its data

_END_WITHIN_S = 30.0
NEEDED_MIB = 32  # on the disk: with less, Kafka fails in odd ways, and can't even log why
DISK_FULL = "the disk that holds {data_dir} is full; free some space, then start again"

REASONS = (  # what Kafka logs, and what that means for the one who started it
    ("No space left on device", DISK_FULL),
    ("Address already in use", "port {port} is taken; choose another with --port"),
    ("OutOfMemoryError", "Java ran out of memory; give it more with --heap-mib"),
    ("Failed to acquire lock on file", "another Kafka works in {data_dir}; stop it, or choose another --data-dir"),
)


class Stamp(TypedDict):
    """What the stamp of a folder says: which Kafka made it, which cluster it is, the port of its last start."""

    kafka_version: str
    cluster_id: str
    port: int


@dataclass(frozen=True, slots=True)
class BrokerStatus:
    """What is known of the broker of a folder. What is not known, or makes no sense when it is stopped, is None."""

    running: bool
    data_dir: Path
    bootstrap_servers: str | None = None
    kafka_version: str | None = None
    pid: int | None = None
    uptime_s: float | None = None
    rss_mib: float | None = None
    last_error: str | None = None


def default_data_dir() -> Path:
    """One broker for each user, as port 9092 is one for each machine: `$XDG_STATE_HOME/placet/broker`."""
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "placet" / "broker"


def status(data_dir: Path) -> BrokerStatus:
    """Looks at the folder, starts and changes nothing.

    Raises:
        SettingsError: the folder is there, but it is no broker's, or another version's.
    """
    stamp = check(data_dir)
    if stamp is None:
        return BrokerStatus(running=False, data_dir=data_dir)
    address, version = f"{HOST}:{stamp['port']}", stamp["kafka_version"]
    if not _is_locked(data_dir):
        why = reason(_read(data_dir / LOG), data_dir, stamp["port"])
        return BrokerStatus(False, data_dir, address, version, last_error=why)
    why = DISK_FULL.format(data_dir=data_dir) if _is_disk_full(data_dir) else None
    pid = read_pid(data_dir)
    if pid is None:  # locked, but Java is not there yet
        return BrokerStatus(True, data_dir, address, version, last_error=why)
    uptime_s = round(time.time() - (data_dir / PID).stat().st_mtime, 1)
    return BrokerStatus(True, data_dir, address, version, pid, uptime_s, _rss_mib(pid), why)


def stop(data_dir: Path) -> bool:
    """Ends the broker of the folder in good order, by force after half a minute. False: none ran.

    Raises:
        SettingsError: the folder is no broker's, or a broker starts there this very moment and does not get on.
    """
    if check(data_dir) is None or not _is_locked(data_dir):
        return False
    _wait(lambda: read_pid(data_dir) is not None or not _is_locked(data_dir), _END_WITHIN_S)
    for number in (signal.SIGTERM, signal.SIGKILL):
        pid = read_pid(data_dir)
        if pid is not None and _is_locked(data_dir):  # the lock says that this pid is still our broker
            os.kill(pid, number)
        if _wait(lambda: not _is_locked(data_dir), _END_WITHIN_S):
            return True
    raise SettingsError(f"A broker works in {data_dir}, but does not end: see {data_dir / LOG}")


def check(data_dir: Path) -> Stamp | None:
    """The stamp of the folder, None for a new one.

    Raises:
        SettingsError: the folder holds other things, another version's data or another cluster's.
    """
    if not (data_dir / STAMP).exists():
        if data_dir.exists() and (not data_dir.is_dir() or {p.name for p in data_dir.iterdir()} - {LOCK}):
            raise SettingsError(f"{data_dir} is not a broker's: choose an empty or new folder with --data-dir.")
        return None
    try:
        stamp: Stamp = json.loads(_read(data_dir / STAMP))
        version, cluster = stamp["kafka_version"], stamp["cluster_id"]
    except (ValueError, KeyError, TypeError) as error:
        raise SettingsError(f"{data_dir / STAMP} is damaged: choose another --data-dir, or delete it.") from error
    if version != KAFKA_VERSION:
        raise SettingsError(
            f"{data_dir} was written by Kafka {version}, this is Kafka {KAFKA_VERSION}: "
            "choose another --data-dir, or delete this one if its topics are not needed."
        )
    found = _cluster_of_data(data_dir)
    if found not in (None, cluster):
        raise SettingsError(
            f"{data_dir} belongs to the cluster {cluster}, but the data in it come from the cluster {found}: "
            "choose another --data-dir, or put the right data back."
        )
    return stamp


def lock(data_dir: Path) -> int:
    """Takes the folder for one broker. Returns the file descriptor that holds it, to be handed on to Java.

    Raises:
        SettingsError: a broker runs there.
    """
    descriptor = os.open(data_dir / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise SettingsError(f"A broker runs already in {data_dir}: stop it, or choose another --data-dir.") from error
    return descriptor


def is_formatted(data_dir: Path) -> bool:
    """Whether Kafka has data there."""
    return (data_dir / DATA / FORMATTED).exists()


def read_pid(data_dir: Path) -> int | None:
    """The process id of Java as its guard wrote it down; it means something only while the folder is locked."""
    text = _read(data_dir / PID)
    return int(text) if text.strip().isdigit() else None


def reason(said: str, data_dir: Path, port: int) -> str | None:
    """Why the broker ended, in a sentence for its user; None where the log tells no reason."""
    if _is_disk_full(data_dir):
        return DISK_FULL.format(data_dir=data_dir)
    for mark, sentence in REASONS:
        if mark in said:
            return sentence.format(data_dir=data_dir, port=port)
    errors = [line for line in said.splitlines() if " ERROR " in line]
    return errors[-1].strip() if errors else None


def last_words(said: str) -> str:
    """What the broker said last before it ended, where the log tells no reason. A trace's lines are no words."""
    words = [line.rstrip(".") for line in said.splitlines() if line and not line[0].isspace()]
    return f"it ended, its last words: {words[-1]}" if words else "it ended without a word"


def write(file: Path, text: str) -> None:
    """All of it or nothing: who is killed here, or finds the disk full, leaves no half a file."""
    draft = file.with_suffix(".draft")
    try:
        draft.write_text(text, encoding="utf-8")
        draft.replace(file)
    finally:
        draft.unlink(missing_ok=True)


@contextmanager
def writing(data_dir: Path) -> Iterator[None]:
    """Makes the folder, and turns what the operating system refuses into a sentence."""
    full = SettingsError(f"The broker can't start: {DISK_FULL.format(data_dir=data_dir)}.")
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        if _is_disk_full(data_dir):
            raise full
        yield
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise full from error
        raise SettingsError(
            f"{data_dir} can't be written ({error.strerror or error}): choose another with --data-dir."
        ) from error


def _cluster_of_data(data_dir: Path) -> str | None:
    """The cluster id in Kafka's own stamp."""
    lines = _read(data_dir / DATA / FORMATTED).splitlines()
    return next((line.partition("=")[2].strip() for line in lines if line.startswith("cluster.id=")), None)


def _is_disk_full(data_dir: Path) -> bool:
    return shutil.disk_usage(data_dir).free < NEEDED_MIB * 2**20


def _is_locked(data_dir: Path) -> bool:
    try:
        with (data_dir / LOCK).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    return False


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ""


def _rss_mib(pid: int) -> float | None:
    """Resident memory, by /proc or, where there is none (macOS), by ps."""
    statm = _read(Path(f"/proc/{pid}/statm")).split()
    if statm:
        return round(int(statm[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20, 1)
    try:
        command = ["ps", "-o", "rss=", "-p", str(pid)]
        said = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 (no user input)
    except FileNotFoundError:
        return None
    return round(int(said.stdout) / 1024, 1) if said.stdout.strip().isdigit() else None


def _wait(condition: Callable[[], bool], timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
