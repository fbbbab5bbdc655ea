"""What happens to brokers and gates, one fault at a time. Each function brings one about and sees that it ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from random import Random
from typing import Final

from bench.soak.schedule import Kind
from bench.soak.site import GATE_SESSION_S, GATES, Site
from tests.cluster import CONTROLLER
from tests.integration.outage import WAYS

__all__ = ["MORTAL", "kinds"]

MORTAL: Final = GATES[1:]
"""Gates that are killed. The first one lives on: of it is seen what a long life takes."""
FREEZE_S: Final = 15.0


def kinds(away_s: float) -> tuple[Kind, ...]:
    """Return every kind of fault, where who is away is away for so long."""
    back_s = away_s + 15  # and until all replicas are in sync again
    roll_s = 25.0 * len(GATES)
    return (
        *(
            Kind(f"broker {node} {way}", back_s, partial(away, node=node, way=way))
            for way in WAYS
            for node in (1, 2, 3)
        ),
        Kind("group's coordinator away", back_s, group_coordinator),
        Kind("transaction coordinator away", back_s, transaction_coordinator),
        Kind("controller away", back_s, controller),
        Kind("gate killed", GATE_SESSION_S + 20, gate_killed),
        Kind("gate frozen for 15 s", FREEZE_S, gate_frozen),
        Kind("gate frozen past its session", GATE_SESSION_S + 15, gate_frozen_long),
        Kind("gates restarted in turn", roll_s, gates_in_turn, ends_every_gate=True),
        Kind("brokers restarted in turn", 75, brokers_in_turn),
        Kind("rules published", 15, rules_published),
        Kind("rules withdrawn", 20, rules_withdrawn),
        Kind("rules changed while gates roll", roll_s + 15, rules_while_gates_roll, ends_every_gate=True),
    )


def away(site: Site, _pick: Random, node: int, way: str) -> None:
    go, come_back = WAYS[way]
    site.says(f"{'the controller' if node == CONTROLLER else f'broker {node}'} is {way}")
    go(site.node(node))
    try:
        site.pause(site.away_s)
    finally:
        come_back(site.node(node))
    site.until(site.outage.whole, 120, "all replicas are in sync again", though_stopping=True)


def group_coordinator(site: Site, pick: Random) -> None:
    away(site, pick, site.group_coordinator(), pick.choice(list(WAYS)))


def transaction_coordinator(site: Site, pick: Random) -> None:
    away(site, pick, site.transaction_coordinator(pick.choice(GATES)), pick.choice(list(WAYS)))


def controller(site: Site, pick: Random) -> None:
    away(site, pick, CONTROLLER, pick.choice(list(WAYS)))


def gate_killed(site: Site, pick: Random) -> None:
    name = pick.choice(MORTAL)
    site.says(f"gate {name} is killed, and started again")
    site.kill(name)
    site.start(name)
    site.until(site.all_tasks_run, 120, f"gate {name} is back, and all tasks run")


def gate_frozen(site: Site, pick: Random) -> None:
    name = pick.choice(GATES)
    site.says(f"gate {name} is frozen for {FREEZE_S:g} s")
    with _frozen(site, name):
        site.pause(FREEZE_S)


def gate_frozen_long(site: Site, pick: Random) -> None:
    """Until others have its tasks. A coordinator that moves meanwhile gives it another session."""
    name = pick.choice(GATES)
    site.says(f"gate {name} is frozen until others have its tasks")
    with _frozen(site, name):
        site.until(lambda: site.all_tasks_run(without=name), 4 * GATE_SESSION_S, "others have its tasks")


@contextmanager
def _frozen(site: Site, name: str) -> Iterator[None]:
    gate = site.now[name].gate
    gate.pause()
    try:
        yield
    finally:
        gate.resume()


def gates_in_turn(site: Site, pick: Random) -> None:
    for name in pick.sample(GATES, len(GATES)):
        _restart(site, name)


def rules_while_gates_roll(site: Site, pick: Random) -> None:
    """Two gates start with rules that changed while they were away; the others hear of them as they run."""
    for name, between in zip(pick.sample(GATES, len(GATES)), (site.widen, site.narrow, None), strict=True):
        _restart(site, name, between)
    site.rules_are_heard()


def brokers_in_turn(site: Site, pick: Random) -> None:
    brokers = site.outage.cluster.brokers
    for node in pick.sample(sorted(brokers), len(brokers)):
        if site.stop.is_set():
            return
        site.says(f"broker {node} is restarted")
        brokers[node].restart()
        site.until(site.outage.whole, 120, "all replicas are in sync again", though_stopping=True)


def rules_published(site: Site, _pick: Random) -> None:
    site.widen()
    site.rules_are_heard()


def rules_withdrawn(site: Site, pick: Random) -> None:
    if not site.widened:
        rules_published(site, pick)
        site.pause(5)
    site.narrow()
    site.rules_are_heard()


def _restart(site: Site, name: str, between: Callable[[], None] | None = None) -> None:
    if site.stop.is_set():
        return
    site.says(f"gate {name} is restarted")
    site.end(name)
    try:
        if between is not None:
            between()
    finally:
        site.start(name)
    site.until(site.all_tasks_run, 120, f"gate {name} is back, and all tasks run")
