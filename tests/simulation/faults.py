"""What can go wrong in a simulated world, as a table. Each world has some of these, drawn by its seed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from tests.simulation.world import Gate, World

__all__ = ["FAULTS", "Fault", "heal"]

_MS: Final = 1_000_000
_SECOND: Final = 1_000 * _MS
_AWAY_NS: Final = (50 * _MS, 400 * _MS, 2 * _SECOND, 5 * _SECOND, 9 * _SECOND)


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
    gate.kill()
    gate.new_disk()
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
    number = _some_broker(world)
    if not number:
        return ""
    away_ns = _away_ns(world)
    world.cluster.stop(number)
    world.scheduler.later(away_ns, lambda: world.cluster.go_on(number))
    return f"broker {number} is away for {away_ns / _SECOND:g} s"


def _broker_silent(world: World) -> str:
    number = _some_broker(world)
    if not number:
        return ""
    away_ns = _away_ns(world)
    world.cluster.freeze(number)
    world.scheduler.later(away_ns, lambda: world.cluster.go_on(number))
    return f"broker {number} is silent for {away_ns / _SECOND:g} s"


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
    before = gate.skew_ns
    by_ns = (-7_000, -900, 900, 7_000)[world.choices.pick(4)] * _MS
    gate.set_skew(before + by_ns)
    world.scheduler.later(_away_ns(world), lambda: gate.set_skew(before))
    return f"the clock of {gate.name} jumps by {by_ns / _SECOND:g} s"


def _time_passes(world: World) -> str:
    minutes = (2, 11, 25, 24 * 60)[world.choices.pick(4)]
    world.scheduler.start_ns += minutes * 60 * _SECOND
    return f"{minutes} minutes pass at once, on all clocks"


def _store_damaged(world: World) -> str:
    gate = _some_gate(world)
    folders = [folder for folder in gate.disk.folders() if not folder.suffix]
    if not folders or "damage" in world.happened_once:
        return ""  # a second time within ten minutes stops the task by name, as it must
    world.happened_once.add("damage")
    folder = folders[world.choices.pick(len(folders))]
    gate.disk.damage(folder)
    return f"{folder} of {gate.name} is damaged"


FAULTS: Final = (
    Fault("killed", _gate_killed),
    Fault("power", _machine_loses_power),
    Fault("replaced", _machine_replaced),
    Fault("told", _gate_told_to_stop),
    Fault("frozen", _gate_frozen),
    Fault("away", _broker_stops),
    Fault("silent", _broker_silent),
    Fault("moved", _coordinators_move),
    Fault("broken", _connections_break),
    Fault("network", _network_bad),
    Fault("clock", _gate_clock_jumps),
    Fault("time", _time_passes),
    Fault("damage", _store_damaged),
)


def heal(world: World) -> None:
    """Let everything work again."""
    world.cluster.network.trouble = world.usual_trouble = 0
    for number, node in world.cluster.network.nodes.items():
        if not node.up or node.silent:
            world.cluster.go_on(number)
    for gate in world.gates:
        if gate.process.frozen:
            world.scheduler.thaw(gate.process)
        gate.set_skew(gate.usual_skew_ns)


def _some_gate(world: World) -> Gate:
    return world.gates[world.choices.pick(len(world.gates))]


def _some_broker(world: World) -> int:
    """A broker, where all of them work: two of three have every record, and no more may be missed."""
    nodes = world.cluster.network.nodes
    if not all(node.up and not node.silent for node in nodes.values()):
        return 0
    return 1 + world.choices.pick(len(nodes))


def _away_ns(world: World) -> int:
    return _AWAY_NS[world.choices.pick(len(_AWAY_NS))]
