"""The demo's world: a broker, topics, two gates, two advisors, all real processes that go away with the demo.

Each process stands under the guard that brokers have (`placet/devbroker/guard.py`): whatever ends the demo, `kill -9`
too, ends them, and takes the temporary folder away.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar

from placet.devbroker import guard
from placet.devbroker.broker import Broker
from placet.devbroker.frozen_process import freeze, unfreeze
from placet.devbroker.settings import free_port
from placet.schemas.errors import PlacetError

APP, PARTITIONS = "demo", 4
DEFINITION = Path(__file__).with_name("flight.yaml")
Say = Callable[[str], None]
P = TypeVar("P", bound="Process")


class DemoError(PlacetError):
    """The demo can't go on."""


class Process:
    """A process under a guard that outlives neither it nor the demo.

    Args:
        name: of its log and pid file.
        command: what runs.
        environment: of it.
        folder: the demo's; goes away with the demo.
    """

    def __init__(self, name: str, command: list[str], environment: dict[str, str], folder: Path) -> None:
        self.name, self.log = name, folder / f"{name}.log"
        self._pid_file = folder / f"{name}.pid"
        self._pid_file.unlink(missing_ok=True)
        order = {
            "commands": [command], "caller": os.getpid(), "pid_file": str(self._pid_file), "remove": str(folder),
            "grace_s": 20,
        }  # fmt: skip
        with self.log.open("ab") as out:
            self._guard = subprocess.Popen(
                [sys.executable, "-I", guard.__file__, json.dumps(order)],
                env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                start_new_session=True,  # Ctrl-C is for the demo, which ends it in good order
            )  # fmt: skip

    def kill(self) -> None:
        """End it as a power cut would."""
        os.kill(int(self._pid_file.read_text()), signal.SIGKILL)
        self._guard.wait(10)

    def freeze(self) -> None:
        """Let it stand still."""
        freeze(int(self._pid_file.read_text()))

    def unfreeze(self) -> None:
        """Let it go on."""
        unfreeze(int(self._pid_file.read_text()))

    def ask_to_leave(self) -> None:
        """Ask it to end in good order."""
        self._guard.terminate()

    def leave(self, timeout_s: float = 30) -> None:
        """Ask it to end in good order, and wait until it has."""
        self._guard.terminate()
        self._guard.wait(timeout_s)

    def ended(self) -> int | None:
        """Return its exit code once it has ended."""
        return self._guard.poll()

    def last_words(self) -> str:
        """Return the end of its log."""
        return self.log.read_text(errors="replace")[-1_500:]


class Gate(Process):
    """`placet run`, with its side port."""

    def __init__(self, number: int, port: int, environment: dict[str, str], folder: Path) -> None:
        self.number, self.port, instance = number, port, f"gate-{number}"
        options = ["--instance", instance, "--state-dir", str(folder / "state" / instance), "--metrics-port", str(port)]
        super().__init__(instance, [sys.executable, "-m", "placet.cli", "run", *options], environment, folder)

    def partitions(self) -> list[int]:
        """Return the partitions that it decides on now."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/readyz", timeout=2) as answer:
                tasks: dict[str, str] = json.load(answer)["tasks"]
        except OSError:  # not up yet, or not ready
            return []
        return sorted(int(task.rpartition("-")[2]) for task, phase in tasks.items() if phase == "running")


class World:
    """Everything that runs beside the demo, given back by `stack`.

    Args:
        stack: gives everything back.
        say: is told what happens.
        seed: of the advisors' thoughts.
        pace: a day's length in units of 8 s.
    """

    def __init__(self, stack: ExitStack, say: Say, seed: int, pace: float) -> None:
        self._stack, self._say, self._seed, self._pace = stack, say, seed, pace
        self.folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="placet-demo-")))
        self.servers = self._start_broker()
        self.gates: list[Gate] = []
        self._killed: list[Gate] = []
        self.advisors: list[Process] = []
        self._leaving: list[Process] = []

    def start(self, advisors: list[str]) -> None:
        """Make the topics, start two gates and the advisors, wait until all are at work."""
        done = self.placet("topics", "apply", "--partitions", str(PARTITIONS))
        if done.returncode:
            raise DemoError(f"`placet topics apply` failed:\n{done.stderr}")
        self.gates = [self._start_gate(number, free_port()) for number in range(2)]
        self.wait("both gates decide", lambda: all(gate.partitions() for gate in self.gates))
        self.advisors = [self._start_advisor(name) for name in advisors]
        self.wait("the advisors listen", lambda: all(self.diary(name) for name in advisors))

    def killed(self) -> list[Gate]:
        """Return the gates that were killed and not started again."""
        return [gate for gate in self._killed if gate.number not in {other.number for other in self.gates}]

    def kill(self, number: int) -> None:
        """End a gate as a power cut would."""
        gate = next(gate for gate in self.gates if gate.number == number)
        self.gates.remove(gate)
        self._killed.append(gate)
        gate.kill()

    def restart(self, number: int) -> None:
        """Start a gate again that was killed: same name, same port, same state."""
        gate = next(gate for gate in self._killed if gate.number == number)
        self.gates.append(self._start_gate(number, gate.port))

    def freeze_advisors(self) -> None:
        """Let them stand still."""
        self._stack.callback(self.unfreeze_advisors)  # what stands still can't leave
        for advisor in self.advisors:
            advisor.freeze()

    def unfreeze_advisors(self) -> None:
        """Let them go on."""
        for advisor in self.advisors:
            advisor.unfreeze()

    def ask_advisors_to_leave(self) -> None:
        """Ask them, all at once: they give up their last thoughts after a while."""
        for advisor in self.advisors:
            advisor.ask_to_leave()
        self._leaving, self.advisors = self.advisors, []

    def advisors_have_left(self) -> bool:
        """Tell whether all that were asked have left."""
        return all(advisor.ended() is not None for advisor in self._leaving)

    def close(self) -> None:
        """Let the gates leave the group, all at once."""
        for gate in self.gates:
            gate.ask_to_leave()
        for gate in self.gates:
            gate.leave()
        self.gates = []

    def diary(self, advisor: str) -> list[dict[str, Any]]:
        """Return an advisor's diary; its last line may be half written."""
        file = self.folder / f"{advisor}.diary"
        lines = file.read_text().split("\n")[:-1] if file.exists() else []
        return [json.loads(line) for line in lines]

    def last_entry(self, advisor: str) -> dict[str, Any]:
        """Return the newest entry of an advisor's diary."""
        file = self.folder / f"{advisor}.diary"
        if not file.exists():
            return {}
        with file.open("rb") as diary:
            diary.seek(max(0, file.stat().st_size - 4_096))
            lines = diary.read().split(b"\n")[:-1]
        entry: dict[str, Any] = json.loads(lines[-1]) if lines else {}
        return entry

    def check(self) -> None:
        """See that all run.

        Raises:
            DemoError: one has ended that should not.
        """
        for process in (*self.gates, *self.advisors):
            if process.ended() is not None:
                raise DemoError(f"{process.name} ended with exit code {process.ended()}:\n{process.last_words()}")

    def wait(self, what: str, condition: Callable[[], object], timeout_s: float = 120) -> None:
        """Wait until something is so.

        Raises:
            DemoError: it never is, or a process ended.
        """
        deadline_s = time.monotonic() + timeout_s
        while not condition():
            self.check()
            if time.monotonic() > deadline_s:
                raise DemoError(f"not within {timeout_s:.0f} s: {what}\n" + "".join(g.last_words() for g in self.gates))
            time.sleep(0.05)

    def placet(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command of `placet` to its end."""
        command = [sys.executable, "-m", "placet.cli", *arguments]
        return subprocess.run(command, env=self.environment(), check=False, capture_output=True, text=True)

    def environment(self) -> dict[str, str]:
        """Return the environment of every process here: nobody else's settings."""
        own = {name: value for name, value in os.environ.items() if not name.startswith("PLACET_")}
        settings = {"APP": APP, "DEFINITION": str(DEFINITION), "KAFKA__BOOTSTRAP_SERVERS": self.servers}
        return own | {f"PLACET_{name}": value for name, value in settings.items()}

    def _start_gate(self, number: int, port: int) -> Gate:
        return self._kept(Gate(number, port, self.environment(), self.folder))

    def _start_advisor(self, name: str) -> Process:
        options = ["--diary", str(self.folder / f"{name}.diary"), "--seed", str(self._seed), "--pace", str(self._pace)]
        return self._kept(
            Process(name, [sys.executable, "-m", "demo.advisors", name, *options], self.environment(), self.folder)
        )

    def _kept(self, process: P) -> P:
        self._stack.callback(process.leave)
        return process

    def _start_broker(self) -> str:
        """Start a Kafka that goes away with the demo."""
        began_s, said = time.monotonic(), set[str]()

        def on_progress(what: str, _done: int, _steps: int) -> None:
            if what not in said:
                self._say(f"Kafka: {what} ...")
            said.add(what)

        broker = Broker()
        self._stack.callback(broker.close)
        broker.start(on_progress)
        ready_s = time.monotonic() - began_s
        self._say(f"A real Kafka runs at {broker.bootstrap_servers}, in a temporary folder ({ready_s:.1f} s).")
        return broker.bootstrap_servers
