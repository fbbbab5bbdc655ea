"""What can go wrong in a simulated world, as a table. Each world has some of these, drawn by its seed."""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from placet.simulation.brokers.network import GOOD, UNANSWERED, Fate, Sender
from placet.simulation.disk import StoreFolder
from placet.simulation.scheduler import Process

if TYPE_CHECKING:
    from tests.simulation.world import Gate, World

__all__ = ["FAULTS", "MOST_AWAY", "Aim", "Delays", "Fault", "heal"]

_MS: Final = 1_000_000
_SECOND: Final = 1_000 * _MS
_MORE_THAN_A_DAY_NS: Final = 25 * 3_600 * _SECOND
"""Longer than tombstones stay, and than `min.compaction.lag.ms`, which is the horizon and a day."""
_WEEK_NS: Final = 7 * 24 * 3_600 * _SECOND
_UNTIL_RESTORED_NS: Final = 120 * _SECOND
"""Longer than a session and a restore."""
_BEHIND_THE_HORIZON_NS: Final = 11 * 60 * _SECOND
_SWEPT_WITHIN_NS: Final = 11 * _SECOND
"""Within it what has expired is deleted, in transactions without inputs."""
_QUIET_NS: Final = 12 * _SECOND
_TOMBSTONES_MS: Final = 24 * 3_600_000
"""Kafka's default of delete.retention.ms."""
_MINUTES: Final = (4.0, 7.0, 10.5, 10.5, 11.0, 25.0, 25.0, 24.0 * 60.0)
"""How much time passes at once: within the horizon of ten minutes, around it, and behind the minute after it."""
_AWAY_NS: Final = (50 * _MS, 400 * _MS, 2 * _SECOND, 5 * _SECOND, 9 * _SECOND)
_FOR_LONG_NS: Final = (400 * _MS, 5 * _SECOND, 9 * _SECOND, 30 * _SECOND)
"""The last is longer than a start waits for a leader."""
_STALLS_NS: Final = (300 * _MS, 2 * _SECOND, 5 * _SECOND, 9 * _SECOND, 9 * _SECOND)
"""Within a transaction's timeout, within a session, and longer."""
_STALL_TURNS: Final = (300, 800, 3_000)
_STALL_POLLS: Final = (15, 40, 150)
"""Within so many turns, and once in so many polls, one machine stands still."""
_HELD_BACK: Final = ("Fetch", "Produce")
_HELD_BACK_NS: Final = (30 * _MS, 200 * _MS, 1_000 * _MS)
MOST_AWAY: Final = "most away"


class Fault(NamedTuple):
    """A row: what happens, by whom. `happen` returns what happened, "" where it could not."""

    name: str
    happen: Callable[[World], str]


def _gate_killed(world: World) -> str:
    gate = _some_gate(world)
    if gate.process.dead:
        return ""
    gate.kill()
    return f"{gate.process.name} is killed"


def _dies_at_a_write(world: World) -> str:
    """Between the stores of two tasks of one transaction, or amid a restore: at the n-th write from now on."""
    gate = _some_gate(world)
    disk, pick = gate.disk, world.choices.pick
    number, loses_power = 1 + pick(8), pick(3) == 0
    left = [number]

    def look() -> None:
        left[0] -= 1
        if left[0]:
            return
        disk.before_write = None
        if world.over:
            return
        world.note("outside", f"{gate.process.name} dies at a write")
        gate.kill()
        if loses_power:
            disk.lose_power()

    disk.before_write = look
    return f"{gate.process.name} will die at its write {number}{', of a power loss' if loses_power else ''}"


def _machine_loses_power(world: World) -> str:
    gate = _some_gate(world)
    if gate.process.dead:
        return ""
    gate.kill()
    gate.disk.lose_power()
    return f"{gate.name} loses its power"


def _machine_replaced(world: World) -> str:
    gate = _some_gate(world)
    if gate.process.dead:
        return ""
    gate.replace()
    return f"{gate.name} gets another machine, with an empty disk"


def _gate_told_to_stop(world: World) -> str:
    gate = _some_gate(world)
    gate.stopping.set()
    return f"{gate.process.name} is told to stop"


def _gate_frozen(world: World) -> str:
    gate = _some_gate(world)
    process = gate.process
    if process.dead or process.frozen:
        return ""
    world.scheduler.freeze(process)
    away_ns = _away_ns(world)
    world.scheduler.later(away_ns, lambda: world.scheduler.thaw(process))
    return f"{process.name} stands still for {away_ns / _SECOND:g} s"


def _broker_stops(world: World) -> str:
    return _broker_away(world, world.cluster.stop, "stops")


def _broker_silent(world: World) -> str:
    return _broker_away(world, world.cluster.freeze, "falls silent")


def _broker_isolated(world: World) -> str:
    return _broker_away(world, world.cluster.isolate, "is cut off from the others")


def _path_is_cut(world: World) -> str:
    """A firewall between one machine and one broker, which swallows what is sent."""
    gate, cuts = _some_gate(world), world.cluster.network.cuts
    cut = (gate.name, 1 + world.choices.pick(len(world.cluster.network.nodes)))
    cuts.add(cut)
    away_ns = _away_ns(world)
    world.scheduler.later(away_ns, lambda: cuts.discard(cut))
    return f"nothing gets from {gate.name} to broker {cut[1]} for {away_ns / _SECOND:g} s"


def _broker_away(world: World, leave: Callable[[int], None], how: str) -> str:
    number = _some_broker(world)
    if not number:
        return ""
    leave(number)
    return f"broker {number} {how}, for {_comes_back(world, number):g} s"


def _most_brokers_away(world: World) -> str:
    """Two of them, or all three: what two of three have is still there, but too few are in sync to write."""
    if not _all_brokers_work(world):
        return ""
    world.happened_once.add(MOST_AWAY)
    count, nodes, told = (2, 2, 2, 3)[world.choices.pick(4)], list(world.cluster.network.nodes), []
    first = world.choices.pick(len(nodes))
    for number in (*nodes[first:], *nodes[:first])[:count]:
        leave, how = ((world.cluster.stop, "stops"), (world.cluster.freeze, "falls silent"))[world.choices.pick(2)]
        after_ns = (0, 0, 300 * _MS, 3_500 * _MS)[world.choices.pick(4)]
        world.scheduler.later(after_ns, partial(_leave_unless_over, world, number, leave))
        told.append(f"broker {number} {how} after {after_ns / _SECOND:g} s")
    return ", ".join(told)


def _leave_unless_over(world: World, number: int, leave: Callable[[int], None]) -> None:
    if not world.over:
        leave(number)
        _comes_back(world, number, _FOR_LONG_NS)


def _coordinators_move(world: World) -> str:
    number = _some_broker(world)
    if not number:
        return ""
    world.cluster.move_coordinators(number)
    return f"broker {number} coordinates now"


def _connections_break(world: World) -> str:
    number = 1 + world.choices.pick(3)
    world.cluster.network.break_connections(number)
    return f"connections to broker {number} break"


def _network_bad(world: World) -> str:
    world.cluster.network.trouble = 12
    world.scheduler.later(_away_ns(world) // 4, lambda: setattr(world.cluster.network, "trouble", world.usual_trouble))
    return "the network is bad for a while"


def _gate_clock_jumps(world: World) -> str:
    gate = _some_gate(world)
    by_ns = (-7_000, -900, 900, 7_000)[world.choices.pick(4)] * _MS
    gate.set_skew(gate.usual_skew_ns + by_ns)
    world.scheduler.later(_away_ns(world), lambda: gate.set_skew(gate.usual_skew_ns))
    return f"the clock of {gate.name} jumps by {by_ns / _SECOND:g} s"


def _time_passes(world: World) -> str:
    minutes = _MINUTES[world.choices.pick(len(_MINUTES))]
    world.scheduler.start_ns += round(minutes * 60) * _SECOND
    quiet_s = (2, 4, 6, 0)[world.choices.pick(4)]  # in which what has expired is swept by transactions without inputs
    world.feeder.quiet_until_ns = world.scheduler.now_ns + quiet_s * _SECOND
    return f"{minutes:g} minutes pass at once on all clocks, and no input comes for {quiet_s} s"


def _inputs_wait(world: World) -> str:
    """Nobody decides for longer than anything is remembered, and there are inputs, and retries of earlier ones."""
    for gate in world.gates:
        gate.kill()
    world.feeder.feed()
    minutes = (12, 25)[world.choices.pick(2)]
    world.scheduler.start_ns += minutes * 60 * _SECOND
    return f"all gates are killed, and inputs wait for {minutes} minutes"


def _inputs_expire(world: World) -> str:
    """Retention removes what was decided, but for the last of it: see docs/not-promised.md on empty partitions."""
    positions = world.cluster.group(world.app).positions
    for at in world.inputs_at:
        world.cluster.log(at).cut_start(max(0, positions.get(at, 0) - 1))
    return "retention removes the inputs that were decided"


def _logs_compacted(world: World) -> str:
    now_ms = world.cluster.network.clock_ms(1)
    for at in world.compacted_at:
        before_ms = now_ms - int(world.cluster.topics[at[0]].configs["min.compaction.lag.ms"])
        world.compacted_before_ms = max(before_ms, world.compacted_before_ms)
        world.cluster.log(at).compact(before_ms=before_ms, tombstones_before_ms=now_ms - _TOMBSTONES_MS)
    return "the cleaner passes"


def _store_copied(world: World) -> str:
    """Somebody copies a machine's stores, as a backup does."""
    gate = _some_gate(world)
    gate.copies = _copies_of(gate)
    return f"the stores of {gate.name} are copied" if gate.copies else ""


def _copy_put_back(world: World) -> str:
    """And puts the copies back beneath a gate that does not run."""
    gate = _some_gate(world)
    if not gate.copies:
        return ""
    gate.kill()
    _put_back(gate, gate.copies)
    return f"{gate.process.name} is killed, and older copies are its stores now"


def _late_copy_put_back(world: World) -> str:
    """Copies of more than a day ago: of what was deleted since then there is no tombstone any more.

    Nothing waits when time passes: what waits for more than a day may be taken for new, as docs/operating.md says.
    """
    gate = _some_gate(world)
    copies = _copies_of(gate)
    if not copies or "late copy" in world.happened_once:
        return ""
    world.happened_once.add("late copy")

    def a_day_passes() -> None:
        gate.kill()
        world.scheduler.start_ns += _MORE_THAN_A_DAY_NS
        _logs_compacted(world)
        _put_back(gate, copies)
        world.note("outside", f"{gate.process.name} is killed; a day later its stores are older copies")

    def they_are_deleted() -> None:
        world.feeder.remove_each()
        _once_settled(world, partial(_once_deleted, world, a_day_passes))

    after_ns = (1, 2, 4, 6)[world.choices.pick(4)] * _SECOND
    world.scheduler.later(after_ns, partial(_once_settled, world, they_are_deleted))
    return f"the stores of {gate.name} are copied, and put back more than a day after this"


def _once_deleted(world: World, then: Callable[[], None]) -> None:
    """Let what was deleted get its tombstones, and others be written behind them, then do something.

    The cleaner touches no segment that is still open: something has to follow what it is to take.
    """

    def others_are_written() -> None:
        for _ in range(3):
            world.feeder.feed_each()
        _once_settled(world, then)

    world.scheduler.start_ns += _BEHIND_THE_HORIZON_NS
    world.scheduler.later(_SWEPT_WITHIN_NS, partial(_once_settled, world, others_are_written))


def _weeks_pass(world: World) -> str:
    """Weeks without an input: while gates run, while none does, or amid a restore."""
    if "weeks" in world.happened_once:
        return ""
    world.happened_once.add("weeks")
    pick = world.choices.pick
    how, weeks, number = pick(3), (1, 2, 5)[pick(3)], 1 + pick(8)
    begin = partial((_weeks_go_by, _weeks_without_a_gate, _weeks_amid_a_restore)[how], world, weeks, number)
    world.scheduler.later(_SECOND, partial(_once_settled, world, partial(_once_deleted, world, begin)))
    return f"{weeks} weeks pass, {('while gates run', 'while no gate runs', 'amid a restore')[how]}"


def _weeks_without_a_gate(world: World, weeks: int, number: int) -> None:
    for gate in world.gates:
        gate.kill()
    world.cluster.group(world.app).members.clear()
    _weeks_go_by(world, weeks, number)


def _weeks_amid_a_restore(world: World, weeks: int, number: int) -> None:
    """A machine with an empty disk stands still while it restores, at its n-th write."""
    gate = _some_gate(world)
    for other in world.gates:
        other.kill()
    gate.replace()
    disk, left = gate.disk, [number]

    def look() -> None:
        left[0] -= 1
        if not left[0]:
            disk.before_write = None
            _weeks_go_by(world, weeks, number)

    disk.before_write = look
    world.feeder.quiet_until_ns = world.scheduler.now_ns + _UNTIL_RESTORED_NS


def _weeks_go_by(world: World, weeks: int, _number: int) -> None:
    if world.over:
        return
    world.feeder.quiet_until_ns = world.scheduler.now_ns + _QUIET_NS
    world.scheduler.start_ns += weeks * _WEEK_NS
    world.cluster.transactions.expire()
    group = world.cluster.group(world.app)
    if not group.members and not group.pending:
        group.positions.clear()
        world.scheduler.later(_QUIET_NS, world.feeder.feed_each)  # nobody would tell how far the group is
    for log in world.logs.values():
        log.forget_producers()
    _inputs_expire(world)
    _logs_compacted(world)
    world.note("outside", f"{weeks} weeks have passed")


def _once_settled(world: World, then: Callable[[], None], tries: int = 40) -> None:
    """Let no inputs come until all are decided, then do something, unless that takes too long."""
    if world.over or not tries:
        return
    world.feeder.quiet_until_ns = world.scheduler.now_ns + _QUIET_NS
    if world.settled():
        then()
    else:
        world.scheduler.later(_SECOND // 2, partial(_once_settled, world, then, tries - 1))


def _copies_of(gate: Gate) -> list[tuple[Path, StoreFolder]]:
    return [(folder, gate.disk.snapshot(folder)) for folder in gate.disk.folders() if not folder.suffix]


def _put_back(gate: Gate, copies: list[tuple[Path, StoreFolder]]) -> None:
    for folder, snapshot in copies:
        if folder in gate.disk.folders():
            gate.disk.put_back(folder, snapshot)


def _copy_in_wrong_place(world: World) -> str:
    """Or puts them in the places of each other's partitions."""
    gate = _some_gate(world)
    folders = [folder for folder in gate.disk.folders() if not folder.suffix]
    if len(folders) < 2:
        return ""
    gate.kill()
    snapshots = [gate.disk.snapshot(folder) for folder in folders]
    for folder, snapshot in zip(folders, snapshots[::-1], strict=True):
        gate.disk.put_back(folder, snapshot)
    return f"{gate.process.name} is killed, and its stores are in each other's place"


def _positions_expire(world: World) -> str:
    """The broker forgets the positions of a group that was away for long; then inputs come again to each partition."""
    inputs = [world.cluster.topics[topic].partitions[number] for topic, number in world.inputs_at]
    if not _all_brokers_work(world) or not all(found.takes_writes for found in inputs):
        return ""
    for gate in world.gates:
        gate.kill()
    group = world.cluster.group(world.app)
    group.positions.clear()
    world.feeder.feed_each()
    return "all gates are killed, and the group's positions are forgotten"


def _disk_full(world: World) -> str:
    gate = _some_gate(world)
    disk = gate.disk
    disk.refuse((errno.ENOSPC, errno.EROFS)[world.choices.pick(2)], once_in=(1, 4)[world.choices.pick(2)])
    world.scheduler.later(_away_ns(world), disk.heal)
    return f"the disk of {gate.name} refuses for a while"


def _disk_fails(world: World) -> str:
    """A sector that can't be read or written: RocksDB takes it for damage. At one call, at some, or at all of them."""
    gate = _some_gate(world)
    disk = gate.disk
    once_in, times = ((40, 1), (1, 1), (300, 1), (8, 3), (4, 0), (1, 0))[world.choices.pick(6)]
    disk.refuse(errno.EIO, once_in, times)
    if not times:
        world.scheduler.later(_away_ns(world), disk.heal)
    return f"the disk of {gate.name} fails at {f'{times} calls' if times else 'calls for a while'}, once in {once_in}"


def _another_joins(world: World) -> str:
    if "joins" in world.happened_once:
        return ""
    world.happened_once.add("joins")
    world.add_gate("c")
    return "a third gate starts"


def _namesake_starts(world: World) -> str:
    """Another machine with the same name: it must not get far."""
    if "namesake" in world.happened_once:
        return ""
    world.happened_once.add("namesake")
    world.add_gate("a", restarts=False)
    return "another gate of the name a starts"


def _store_damaged(world: World) -> str:
    gate = _some_gate(world)
    folders = [folder for folder in gate.disk.folders() if not folder.suffix]
    if not folders:
        return ""
    folder = folders[world.choices.pick(len(folders))]
    gate.disk.damage(folder)
    return f"{folder} of {gate.name} is damaged"


FAULTS: Final = (
    Fault("killed", _gate_killed),
    Fault("write", _dies_at_a_write),
    Fault("power", _machine_loses_power),
    Fault("replaced", _machine_replaced),
    Fault("told", _gate_told_to_stop),
    Fault("frozen", _gate_frozen),
    Fault("away", _broker_stops),
    Fault("silent", _broker_silent),
    Fault("isolated", _broker_isolated),
    Fault("cut", _path_is_cut),
    Fault(MOST_AWAY, _most_brokers_away),
    Fault("moved", _coordinators_move),
    Fault("broken", _connections_break),
    Fault("network", _network_bad),
    Fault("clock", _gate_clock_jumps),
    Fault("time", _time_passes),
    Fault("outage", _inputs_wait),
    Fault("damage", _store_damaged),
    Fault("copied", _store_copied),
    Fault("copied back", _copy_put_back),
    Fault("late copy", _late_copy_put_back),
    Fault("wrong place", _copy_in_wrong_place),
    Fault("forgotten", _positions_expire),
    Fault("full", _disk_full),
    Fault("EIO", _disk_fails),
    Fault("joins", _another_joins),
    Fault("namesake", _namesake_starts),
    Fault("retention", _inputs_expire),
    Fault("compaction", _logs_compacted),
    Fault("weeks", _weeks_pass),
)


class Strike(NamedTuple):
    """A row of what happens at a certain request. `fate` says what becomes of it; None: it can't happen now."""

    name: str
    fate: Callable[[World, Sender, int], Fate | None]


def _sender_dies_after_sending(world: World, sender: Sender, _number: int) -> Fate | None:
    gate = _gate_of(world, sender)
    if gate is None:
        return None
    world.scheduler.later(1, gate.kill)
    return GOOD


def _sender_dies_when_done(world: World, sender: Sender, _number: int) -> Fate | None:
    gate = _gate_of(world, sender)
    return Fate(then=gate.kill) if gate is not None else None


def _sender_frozen_when_done(world: World, sender: Sender, _number: int) -> Fate | None:
    away_ns = _away_ns(world)
    return Fate(then=lambda: _stand_still(world, sender.process, away_ns))


def _broker_stops_when_done(world: World, _sender: Sender, number: int) -> Fate | None:
    if not _all_brokers_work(world):
        return None

    def stop() -> None:
        if _all_brokers_work(world):
            world.cluster.stop(number)
            _comes_back(world, number)

    return Fate(answered=False, then=stop)


def _broker_falls_silent(world: World, _sender: Sender, number: int) -> Fate | None:
    if not _all_brokers_work(world):
        return None
    world.cluster.freeze(number)
    _comes_back(world, number)
    return GOOD


def _coordinators_move_when_done(world: World, _sender: Sender, _number: int) -> Fate | None:
    to = 1 + world.choices.pick(3)
    return Fate(then=lambda: world.cluster.move_coordinators(to) if _all_brokers_work(world) else None)


def _late_and_sent_again(world: World, _sender: Sender, _number: int) -> Fate | None:
    return Fate(breaks=True, late_ns=(1 + world.choices.pick(8)) * (10, 200)[world.choices.pick(2)] * _MS)


STRIKES: Final = (
    Strike("its sender dies after it was sent", _sender_dies_after_sending),
    Strike("its sender dies when it is done", _sender_dies_when_done),
    Strike("its sender stands still when it is done", _sender_frozen_when_done),
    Strike("the broker stops when it is done", _broker_stops_when_done),
    Strike("the broker falls silent", _broker_falls_silent),
    Strike("the coordinators move when it is done", _coordinators_move_when_done),
    Strike("its answer is lost", lambda *_: UNANSWERED),
    Strike("it is late, and sent again meanwhile", _late_and_sent_again),
)
AIMS: Final = (
    "InitProducerId", "AddPartitionsToTxn", "Produce", "AddOffsetsToTxn", "TxnOffsetCommit", "EndTxn", "EndTxn",
    "EndTxn", "Fetch", "OffsetFetch", "ListOffsets", "ConsumerGroupHeartbeat",
)  # fmt: skip


class Aim:
    """Strikes at requests of one kind, some of them.

    Args:
        world: where.
        count: how many strikes there are at most.
    """

    def __init__(self, world: World, count: int = 4) -> None:
        pick = world.choices.pick
        self._world = world
        self._left = count
        self._what = AIMS[pick(len(AIMS))]
        self._once_in = (2, 6, 15)[pick(3)]
        self._strikes = [STRIKES[pick(len(STRIKES))] for _ in range(2)]

    def fate_of(self, sender: Sender, number: int) -> Fate:
        """Draw what becomes of a request."""
        world = self._world
        aimed = self._left and not world.over and sender.what == self._what
        if not aimed or world.choices.pick(self._once_in):
            return world.cluster.network.usual_fate(sender, number)
        strike = self._strikes[world.choices.pick(len(self._strikes))]
        fate = strike.fate(world, sender, number)
        if fate is None:
            return world.cluster.network.usual_fate(sender, number)
        self._left -= 1
        world.happened(f"{sender.what} of {sender.process.name} to broker {number}: {strike.name}")
        return fate


class Delays:
    """What is slow in a world: machines that stand still at any moment, and brokers that hold back what a gate asks.

    A machine stands still as collectors of garbage, hypervisors and full swaps make it: at any time, which is mostly
    while it waits; at any turn, which is mostly amid a transaction; and after a poll, while a gate decides, which takes
    no time here. A broker holds all reads or all writes of a gate back, as quotas do.

    Args:
        world: where.
    """

    def __init__(self, world: World) -> None:
        pick = world.choices.pick
        self._world = world
        self._turns_max = _STALL_TURNS[pick(len(_STALL_TURNS))]
        self._once_in_polls = _STALL_POLLS[pick(len(_STALL_POLLS))]
        self._stall_at = 1 + pick(self._turns_max)
        self._held_back: tuple[str, str, int] | None = None  # of which machine, what, and for how long each
        self._again_later()

    def fate_of(self, sender: Sender, number: int) -> Fate:
        """Draw what becomes of a request."""
        machine = sender.process.name.partition(".")[0]
        if self._held_back is not None and self._held_back[:2] == (machine, sender.what):
            return Fate(late_ns=self._held_back[2])
        return self._world.cluster.network.usual_fate(sender, number)

    def on_turn(self, turn: int, process: Process) -> None:
        """Let a machine stand still at some turns."""
        if turn >= self._stall_at:
            self._stall_at = turn + 1 + self._world.choices.pick(self._turns_max)
            self._stall(process)

    def polled(self, process: Process) -> None:
        """Let a machine stand still after some polls: before anything comes of them."""
        if self._world.choices.pick(self._once_in_polls) == 0:
            self._stall(process)

    def _again_later(self) -> None:
        self._world.scheduler.later((1 + self._world.choices.pick(6)) * _SECOND // 2, self._at_any_time)

    def _at_any_time(self) -> None:
        """Let a machine stand still, or brokers hold back one kind of its requests, until the next time."""
        self._held_back = None
        if self._world.over:
            return
        pick, gate = self._world.choices.pick, _some_gate(self._world)
        if pick(2):
            what, late_ns = _HELD_BACK[pick(len(_HELD_BACK))], _HELD_BACK_NS[pick(len(_HELD_BACK_NS))]
            self._held_back = (gate.name, what, late_ns)
            self._world.happened(f"brokers hold back each {what} of {gate.name} for {late_ns / _SECOND:g} s")
        else:
            self._stall(gate.process)
        self._again_later()

    def _stall(self, process: Process) -> None:
        world = self._world
        if not (world.over or process.frozen or process.dead):
            away_ns = _STALLS_NS[world.choices.pick(len(_STALLS_NS))]
            world.happened(f"{process.name} stands still for {away_ns / _SECOND:g} s")
            _stand_still(world, process, away_ns)


def _stand_still(world: World, process: Process, away_ns: int) -> None:
    if not process.dead and not process.frozen:
        world.scheduler.freeze(process)
        world.scheduler.later(away_ns, lambda: world.scheduler.thaw(process))


def heal(world: World) -> None:
    """Let everything work again."""
    world.cluster.network.trouble = world.usual_trouble = 0
    world.cluster.network.cuts.clear()
    for number, node in world.cluster.network.nodes.items():
        if not node.up or node.silent:
            world.cluster.go_on(number)
    for gate in world.gates:
        if gate.process.frozen:
            world.scheduler.thaw(gate.process)
        gate.set_skew(gate.usual_skew_ns)
        gate.disk.heal()
        gate.definition = world.newest


def _some_gate(world: World) -> Gate:
    return world.gates[world.choices.pick(len(world.gates))]


def _some_broker(world: World) -> int:
    """A broker, where all of them work: two of three have every record, and no more may be missed."""
    return 1 + world.choices.pick(len(world.cluster.network.nodes)) if _all_brokers_work(world) else 0


def _all_brokers_work(world: World) -> bool:
    return all(map(world.cluster.network.works, world.cluster.network.nodes))


def _gate_of(world: World, sender: Sender) -> Gate | None:
    return next((gate for gate in world.gates if gate.process is sender.process and not gate.process.dead), None)


def _comes_back(world: World, number: int, whiles_ns: Sequence[int] = _AWAY_NS) -> float:
    """Let a broker come back after a while; return how long that is, in seconds."""
    away_ns = whiles_ns[world.choices.pick(len(whiles_ns))]

    def come_back() -> None:
        if not world.cluster.network.works(number):
            world.note("outside", f"broker {number} is back")
        world.cluster.go_on(number)

    world.scheduler.later(away_ns, come_back)
    return away_ns / _SECOND


def _away_ns(world: World) -> int:
    return _AWAY_NS[world.choices.pick(len(_AWAY_NS))]
