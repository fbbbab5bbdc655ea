"""The whole gate in a simulated world: two gates as `placet run` builds them, three brokers, inputs, and trouble."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from logging import NullHandler
from pathlib import Path
from typing import Final, NamedTuple

from placet.processors.rules import Rules
from placet.schemas.definition.model import Definition
from placet.schemas.errors import DefinitionError, PlacetError
from placet.simulation.brokers.cluster import SimulatedCluster
from placet.simulation.brokers.log import PartitionLog, Piece, ProducerBatch
from placet.simulation.choices import Choices
from placet.simulation.disk import SimulatedDisk, StoreFolder
from placet.simulation.host import SimulatedHost
from placet.simulation.scheduler import Crashed, Process, Scheduler
from placet.streams.host import Host
from placet.streams.kafka.schema_registry import SchemaTexts
from placet.streams.loop.observer import SchemaWait
from placet.streams.loop.task import Counts
from placet.streams.main import ToldToStop, build
from placet.streams.publishing import rules_of
from placet.streams.settings import Settings, load_settings
from placet.streams.telemetry.log import client_logger
from placet.streams.topics.configs import required_topics
from placet.streams.topology import TaskId, dead_letters_topic
from tests.simulation.faults import FAULTS, Aim, Delays, heal
from tests.simulation.feeder import Feeder
from tests.simulation.rules import APP, DEFINITION, PARTITIONS, TOPICS, VERSIONS, WITH_CODE

__all__ = ["Scale", "World"]

client_logger().addHandler(NullHandler())  # what clients log is heard by the gate alone
_RESTART_NS: Final = (100_000_000, 500_000_000, 1_500_000_000)
_SECOND_NS: Final = 1_000_000_000
_OPERATOR_NS: Final = 5_000_000_000
TWICE: Final = 2
MAY_OUTLIVE: Final = (
    "watchdog", "discard a producer", "send positions", "ask for positions", "close a restore's clients",
    "leave the group", "answer what can be run",
)  # fmt: skip
"""Threads that may still wait when a gate has closed everything: for the next look, or for a broker that is away."""
SKEWS: Final = (-2, -1, 1, 2, 0)
LOOK_EVERY: Final = 20
"""Turns, between two looks whether a phase is over."""
FEED_S: Final = 600.0
STOP_S: Final = 60.0
SETTLE_S: Final = 90.0
_TIMERS_NS: Final = 12_000_000_000
"""Longer than the skew that is allowed, with the clocks of brokers and gates off in either direction."""
"""Of simulated time: within it every input is decided once all works again."""


class Scale(NamedTuple):
    """How large a world is.

    Attributes:
        inputs: how many are sent.
        batch_records_max: most inputs of one transaction.
        note_bytes: of large states, which each change writes anew; 0: states are small.
        pause_ms: between inputs; a burst where it is 0.
        fault_ms: a twentieth of the longest time between two faults.
        rolls: whether the gates are replaced, one after the other, by those of a newer definition.
        delays: whether machines and brokers are slow at any moment, and tasks move all the time.
    """

    inputs: int = 60
    batch_records_max: int = 3
    note_bytes: int = 0
    pause_ms: int = 50
    fault_ms: int = 180
    rolls: bool = False
    delays: bool = False


STANDARD: Final = Scale()


@cache
def settings_of(instance: str, batch_records_max: int, *, static: bool) -> Settings:
    """What a gate is told."""
    return load_settings({
        "app": APP, "instance": instance, "state_dir": Path("state"), "poll_timeout_ms": 1_000,
        "batch_records_max": batch_records_max, "transaction_timeout_ms": 3_000, "static": static,
    })  # fmt: skip


class Notes:
    """An `Observer` that keeps what a person would want to know of a history."""

    def __init__(self, world: World, gate: Gate, name: str) -> None:
        self._world = world
        self._gate = gate
        self._name = name
        self.phases: dict[str, str] = {}
        self.waits_for: dict[str, str] = {}
        self.faults: dict[str, int] = {}  # of topics

    def decided(
        self, entity: str, partition: int, counts: Counts, _end_to_end_s: float, overdue_ms: Sequence[int]
    ) -> None:
        timers = f", {len(overdue_ms)} timers among them, due for {max(overdue_ms)} ms" if overdue_ms else ""
        self._world.note(self._name, f"decided {sum(counts.values())} of {entity}-{partition}{timers}")

    def transaction(self, result: str, _duration_s: float) -> None:
        self._world.counts[result] = self._world.counts.get(result, 0) + 1

    def tasks(self, phases: dict[str, str]) -> None:
        if phases != self.phases:
            self.phases = dict(phases)
            self._world.note(self._name, f"tasks {self.phases}")

    def restored(self, task: str, records: int, _duration_s: float, warning: str) -> None:
        self._world.note(self._name, f"{task} restored from {records} records {warning}")

    def restoring(self, _progress: dict[str, tuple[int, int | None]], waits_for: dict[str, str]) -> None:
        if waits_for != self.waits_for:
            self.waits_for = dict(waits_for)
            self._world.note(self._name, f"restores wait for {waits_for}")

    def lag(self, records: Mapping[tuple[str, int], int]) -> None: ...

    def next_due(self, at_ms: Mapping[TaskId, int]) -> None: ...

    def event(self, name: str, **details: object) -> None:
        told = ", ".join(f"{key}={value}" for key, value in details.items())
        self._world.note(self._name, f"{name}: {told}")
        if name == "task stopped":
            self._world.task_stopped(self._gate, f"{self._name}: {told}")

    def looped(self) -> None:
        if self._world.delays is not None:
            self._world.delays.polled(self._gate.process)

    def awake(self) -> None: ...

    def can_not_run(self, why: Mapping[str, str], *, outside: bool) -> None: ...

    def schema_waits(self, waits: Mapping[str, SchemaWait]) -> None: ...

    def unfit_topics(self, faults: Mapping[str, int]) -> None:
        self.faults = dict(faults)

    def partitions(self, entity: str, count: int) -> None: ...

    def rules(self, entity: str, version: int, _digest: bytes) -> None:
        self._world.note(self._name, f"decides {entity} by version {version}")


class Gate:
    """One gate: a machine with its disk and clock, and the process that runs there at the moment.

    Attributes:
        restarts: whether its process is started again when it ends.
        usual_skew_ns: how far its clock is ahead when nothing is wrong with it.
        definition: what its image has.
    """

    def __init__(self, world: World, name: str, skew_ns: int, *, restarts: bool = True) -> None:
        self.world = world
        self.name = name
        self.restarts = restarts
        self.copies: list[tuple[Path, StoreFolder]] = []  # of its stores, as a backup has them
        self.skew_ns = self.usual_skew_ns = skew_ns
        self.disk = SimulatedDisk(world.choices)
        self.starts = 0
        self.definition = world.newest
        self.settings = settings_of(name, world.scale.batch_records_max, static=world.static)
        self.start()

    def start(self) -> None:
        """Start a process."""
        if self.world.ending:
            return
        self.starts += 1
        process = self.process = Process(f"{self.name}{'' if self.restarts else chr(39)}.{self.starts}")
        world = self.world
        host = self.host = SimulatedHost(world.scheduler, process, self.disk, self.skew_ns, world.cluster)
        stopping = self.stopping = host.flag()
        notes = self.notes = Notes(world, self, process.name)
        world.note(process.name, "starts")

        def run() -> None:
            code = "0"
            try:
                force = self.world.forces or self.definition.version not in WITH_CODE  # what withdraws needs it
                settings = self.settings.model_copy(update={"force": force})
                with suppress(ToldToStop):
                    build(host, settings, (self.definition,), notes, stopping, self._rules_of).run()
            except PlacetError as error:
                code = f"{type(error).__name__}: {error}"
            except Crashed:
                if process.exit_code is not None:
                    world.ends.append(f"{process.name}: it ended itself with {process.exit_code}")
                    world.restart(self)
                raise
            except Exception as error:  # noqa: BLE001 - the process's top
                code = f"{type(error).__name__}: {error}"
                world.bugs.append(code + traceback.format_exc())
            if code == "0":
                left = [*world.scheduler.alive(process), *map(str, self.disk.locked())]
                world.left += [name for name in left if name.rpartition("/")[2] not in MAY_OUTLIVE]
            world.note(process.name, f"ends: {code}")
            world.ends.append(f"{process.name}: {code}")
            world.scheduler.crash(process)
            world.restart(self)

        world.scheduler.spawn(process, "main", run)

    def _rules_of(self, host: Host, settings: Settings, definition: Definition, schemas: SchemaTexts) -> Rules:
        if self.world.needs_code and definition.version in WITH_CODE and self.definition.version not in WITH_CODE:
            raise DefinitionError(f"this image lacks the code of version {definition.version}")
        return rules_of(host, settings, definition, schemas)

    def kill(self) -> None:
        """End its process on the spot, if it runs."""
        if not self.process.dead:
            self.world.scheduler.crash(self.process)
            self.world.restart(self)

    def stop(self) -> None:
        """Tell the process that runs at the moment to stop."""
        self.stopping.set()

    def replace(self) -> None:
        """End its process, and go on with another machine, whose disk is empty."""
        self.kill()
        self.disk = SimulatedDisk(self.world.choices)

    def set_skew(self, skew_ns: int) -> None:
        """Set the machine's clock."""
        self.skew_ns = self.host.skew_ns = skew_ns


class World:
    """All of it.

    Args:
        seed: of what happens; `script` are the choices of an earlier history.
        scale: how large it is.
        trouble: whether anything goes wrong.
    """

    def __init__(
        self,
        seed: int | None,
        scale: Scale = STANDARD,
        *,
        trouble: bool = True,
        script: Sequence[int] = (),
    ) -> None:
        self.choices = Choices(seed, script)
        self.scheduler = Scheduler(self.choices)
        self.cluster = SimulatedCluster(self.scheduler)
        self.app = APP
        self.scale = scale
        self.ending = False
        self.counts: dict[str, int] = {}
        self.stopped: list[str] = []
        self.bugs: list[str] = []
        self.left: list[str] = []  # threads and locks, behind a process that ended in good order
        self.ends: list[str] = []  # of processes, by themselves
        self.faults: list[str] = []
        self.happened_once: set[str] = set()
        self.delays: Delays | None = None
        self.compacted_before_ms = 0  # memory that is older may be gone, though log time stood still since then
        self.trace: list[str] = []
        self.on_note: Callable[[str, str], None] | None = None
        self.usual_trouble = (200, 1_000, 0)[self.choices.pick(3)] if trouble else 0
        self.cluster.network.trouble = self.usual_trouble
        self.over = False
        self.due_before_ms = 0
        for spec in required_topics(APP, [DEFINITION], PARTITIONS):
            configs = {need.config: need.wanted or need.value for need in spec.needs}
            self.cluster.create_topic(spec.name, spec.partitions or 1, {"min.insync.replicas": "2", **configs})
        self.logs = {(topic, n): self.cluster.log((topic, n)) for topic in TOPICS for n in range(PARTITIONS)}
        self._dead_letters = self.cluster.log((dead_letters_topic(APP), 0))
        self.compacted_at = [at for at in self.logs if at[0] in (TOPICS.changelog, TOPICS.ledger)]
        self.inputs_at = [at for at in self.logs if at[0] in TOPICS.inputs]
        for at in self.inputs_at:  # of an empty partition its leader can't tell what is not promised either
            found = self.cluster.topics[at[0]].partitions[at[1]]
            found.log.append(ProducerBatch(-1, 0, -1, False, [Piece(b"order-1", b"{}", None)]), 0)
            self.cluster.replicate_soon(found)
        for node in self.cluster.network.nodes.values():
            node.skew_ns = SKEWS[self.choices.pick(5)] * (950_000_000, 200_000_000)[self.choices.pick(2)]
        self.cluster.cleanup_every_ns = (10, 1, 1, 1)[self.choices.pick(4)] * _SECOND_NS
        self.static = self.choices.pick(4) == 0
        self.newest = DEFINITION
        self.needs_code = scale.rolls and self.choices.pick(2) == 0  # what needs code comes in one image with it
        self.forces = not self.needs_code or self.choices.pick(2) == 0  # what a live gate can't run
        self.gates: list[Gate] = []
        for name in ("a", "b"):
            self.add_gate(name)
        self.feeder = Feeder(self)
        if scale.rolls:
            self.scheduler.later((1 + self.choices.pick(5)) * _SECOND_NS, self._roll)
        if trouble:
            self._faults = [fault for fault in FAULTS if self.choices.pick(2)] or list(FAULTS)
            self._fault_later()
            if scale.delays:
                self.delays = Delays(self)
                self.cluster.network.fate_of, self.scheduler.on_turn = self.delays.fate_of, self.delays.on_turn
                self._restart_later()
            elif self.choices.pick(3) != 2:
                self.cluster.network.fate_of = Aim(self).fate_of

    def run(self) -> None:
        """Let it happen, then let all heal, until every input is decided; then let the gates stop in good order.

        Raises:
            StandsStill: not every input was decided in time, or a gate did not stop.
        """
        self.scheduler.run(lambda: self.feeder.done, FEED_S, every=LOOK_EVERY)
        self.over = True
        heal(self)
        self.note("outside", "all works again")
        self.scheduler.run(self.cluster.is_whole, SETTLE_S, every=LOOK_EVERY)
        self.feeder.feed_each()  # a partition in which nothing comes any more may have been deaf since the last fault
        self.scheduler.run(self.settled, SETTLE_S, every=LOOK_EVERY)
        self._let_timers_fire()
        self.ending = True
        for gate in self.gates:
            gate.stopping.set()
        self.scheduler.run(
            lambda: all(gate.process.dead for gate in self.gates) and self.settled(), STOP_S, every=LOOK_EVERY
        )

    def _let_timers_fire(self) -> None:
        """Let time pass: what is due by now, by the clock of any broker, has to have fired then."""
        self.due_before_ms = min(map(self.cluster.network.clock_ms, self.cluster.network.nodes))
        until_ns = self.scheduler.now_ns + _TIMERS_NS
        self.scheduler.run(lambda: self.scheduler.now_ns >= until_ns, SETTLE_S, every=LOOK_EVERY)

    def add_gate(self, name: str, *, restarts: bool = True) -> None:
        """Start a gate on a machine of its own."""
        skew_ns = SKEWS[self.choices.pick(5)] * (950_000_000, 50_000_000)[self.choices.pick(2)]
        self.gates.append(Gate(self, name, skew_ns, restarts=restarts))

    def die_at(self, turn: int) -> None:
        """Let the gate whose turn it is die at a turn."""

        def look(number: int, process: Process) -> None:
            gate = next((gate for gate in self.gates if gate.process is process), None)
            if number == turn and gate is not None and not process.dead:
                self.happened(f"{process.name} dies at turn {turn}")
                gate.kill()

        self.scheduler.on_turn = look

    def roll(self, gate: Gate) -> None:
        """Replace a gate by one of the newest definition."""
        gate.definition = self.newest
        self.happened(f"{gate.process.name} is replaced by one of version {self.newest.version}")
        if self.choices.pick(2):
            gate.kill()
        else:
            gate.stopping.set()

    def _roll(self) -> None:
        """Replace one gate. It stops once more before the next one is: its partitions go back to an older one."""
        if self.over:
            return
        older = [gate for gate in self.gates if gate.definition is not self.newest]
        if not older:
            later = [each for each, _ in VERSIONS if each.version > self.newest.version]
            if not later:
                return
            self.newest, older = later[0], self.gates
            if len(later) > 1 and self.choices.pick(3) == 0:  # and another one comes at once, upon the same version
                self.roll(self.gates[0])
                self.newest, older = later[1], self.gates[1:]
        gate = older[self.choices.pick(len(older))]
        self.roll(gate)
        self.scheduler.later((9 + self.choices.pick(4)) * _SECOND_NS, gate.stop)
        self.scheduler.later((14 + self.choices.pick(8)) * _SECOND_NS, self._roll)

    def _restart_later(self) -> None:
        self.scheduler.later((1 + self.choices.pick(8)) * _SECOND_NS // 2, self._restart_one)

    def _restart_one(self) -> None:
        """Let a gate go and come back: its tasks go to others, and come back."""
        if self.over:
            return
        gate = self.gates[self.choices.pick(len(self.gates))]
        gate.stop()
        self.happened(f"{gate.process.name} is told to stop")
        self._restart_later()

    def settled(self) -> bool:
        """Tell whether every input is decided, and every transaction has ended everywhere."""
        positions, logs = self.cluster.group(APP).positions, self.logs
        return all(positions.get(at, 0) > last_record(logs[at]) for at in self.inputs_at) and all(
            log.last_stable_offset == log.end for log in (*logs.values(), self._dead_letters)
        )

    def note(self, who: str, what: str) -> None:
        """Keep what happened."""
        self.trace.append(f"{self.scheduler.now_ns / 1e9:10.6f} {who}: {what}")
        if self.on_note is not None:
            self.on_note(who, what)

    def task_stopped(self, gate: Gate, told: str) -> None:
        """Keep what stopped a task by name. Where it is the disk, somebody replaces the machine, as they are told."""
        if "damaged again" in told and gate.disk.bad >= TWICE:
            self.scheduler.later(_OPERATOR_NS, gate.replace)
        else:
            self.stopped.append(told)

    def restart(self, gate: Gate) -> None:
        """Start a gate's process again, a while later, as a supervisor does."""
        if not gate.restarts:
            return
        self.scheduler.later(_RESTART_NS[self.choices.pick(len(_RESTART_NS))], gate.start)

    def happened(self, what: str) -> None:
        """Keep a fault that fired."""
        self.faults.append(what)
        self.note("outside", what)

    def _fault_later(self) -> None:
        self.scheduler.later((1 + self.choices.pick(20)) * self.scale.fault_ms * 1_000_000, self._go_wrong)

    def _go_wrong(self) -> None:
        if self.over:
            return
        kind = self.choices.pick(len(self._faults) + 1)
        what = self._faults[kind].happen(self) if kind < len(self._faults) else ""
        if what:
            self.happened(what)
        self._fault_later()


def last_record(log: PartitionLog) -> int:
    """The offset of the last record that a reader of committed records will see; -1 without any."""
    return next((entry.offset for entry in reversed(log.entries) if not entry.marker and not entry.aborted), -1)
