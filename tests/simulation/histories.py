"""Histories: run one by its seed or script, say what was wrong with it, and make a failing one small."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, NamedTuple

from placet.simulation.choices import CALM
from placet.simulation.scheduler import StandsStill
from tests.simulation.invariants import broken_invariants, stops_and_deaths
from tests.simulation.world import Scale, World

__all__ = ["KINDS", "History", "collected_afterwards", "outcome_of", "run_history", "shrunk"]

STANDARD: Final = "standard"
SMALL: Final = "small"
LARGE: Final = "large"
ROLLING: Final = "rolling"
DELAYED: Final = "delayed"
KINDS: Final[dict[str, Scale]] = {
    STANDARD: Scale(),
    SMALL: Scale(inputs=5),
    ROLLING: Scale(inputs=90, pause_ms=200, fault_ms=1_000, rolls=True),
    DELAYED: Scale(inputs=90, pause_ms=150, fault_ms=2_000, delays=True),
    LARGE: Scale(inputs=200, batch_records_max=4_000, note_bytes=200_000, pause_ms=0),
}
"""Kinds of worlds: at least twenty transactions, about three, rules that change, machines and brokers that are slow at
any moment while tasks move, or large states that come at once."""
_RUNS_MAX: Final = 300


class History(NamedTuple):
    """What came of one history.

    Attributes:
        kind: of world.
        seed: it was drawn by.
        script: every choice: the same ones lead to the same history.
        wrong: a sentence for each thing that did not hold; empty when all is well.
        committed: how many transactions.
        faults: what went wrong around the gates.
        digest: of all that happened, and of the logs.
    """

    kind: str
    seed: int
    script: Sequence[int]
    wrong: Sequence[str]
    committed: int
    faults: Sequence[str]
    digest: str

    @property
    def failure(self) -> str:
        """What kind of thing was wrong: two failures of one kind are taken for the same."""
        return self.wrong[0].partition(":")[0].partition(" ")[0] if self.wrong else ""


@contextmanager
def collected_afterwards() -> Iterator[None]:
    """Look for garbage once a history is over: amid it there is hardly any, and looking takes a fifth of the time."""
    gc.freeze()  # what was there before is not looked at
    gc.disable()
    try:
        yield
    finally:
        gc.collect()
        gc.enable()
        gc.unfreeze()


@collected_afterwards()
def run_history(
    kind: str, seed: int, script: Sequence[int] = (), prepare: Callable[[World], None] = lambda _world: None
) -> History:
    """Run a history to its end, and look at what it left.

    Args:
        kind: of world, see `KINDS`.
        seed: of the choices behind the script; with a script it only names the history, and all is calm behind it.
        script: choices of an earlier history.
        prepare: is given the world before anything happens in it.
    """
    world = World(None if script else seed, KINDS[kind], script=script)
    prepare(world)
    return outcome_of(world, kind, seed)


def outcome_of(world: World, kind: str, seed: int) -> History:
    """Run a world to its end, look at what it left, and unwind it. Kind and seed name its history."""
    wrong: list[str] = []
    try:
        world.run()
        wrong += broken_invariants(world)
    except StandsStill as error:
        wrong += [*stops_and_deaths(world), f"stands still: {error}"]
    history = History(
        kind, seed, list(world.choices.script), wrong, world.counts.get("committed", 0), world.faults, digest_of(world)
    )
    world.scheduler.close()
    return history


def digest_of(world: World) -> str:
    """Return the digest of a history and of all that lies on the logs in the end."""
    for at, log in world.logs.items():
        for entry in log.entries:
            line = (at, entry.offset, entry.timestamp, entry.key, entry.value, entry.headers, entry.marker)
            world.choices.note(repr(line))
    return world.choices.digest()


def shrunk(history: History, on_progress: Callable[[int, int], None] = lambda _runs, _left: None) -> History:
    """Make a failing history as calm as it can be and still fail in the same way.

    Stretches of its choices are replaced by those by which the least happens, shorter ones each time.

    Args:
        history: one that fails.
        on_progress: is told how many histories were tried, and how many choices are not calm.
    """
    best, size, runs = history, max(1, len(history.script) // 4), 0
    while size and runs < _RUNS_MAX:
        improved = False
        for candidate in _calmer(best.script, size):
            found = run_history(best.kind, best.seed, candidate)
            runs += 1
            if found.failure == history.failure:
                best, improved = found._replace(script=candidate), True
            on_progress(runs, sum(choice != CALM for choice in best.script))
            if improved or runs >= _RUNS_MAX:
                break
        if not improved:
            size //= 2
    return best


def _calmer(script: Sequence[int], size: int) -> Iterator[list[int]]:
    for begin in range(0, len(script), size):
        if any(choice != CALM for choice in script[begin : begin + size]):
            yield [*script[:begin], *[CALM] * len(script[begin : begin + size]), *script[begin + size :]]
    if script and len(script) > size:
        yield list(script[:-size])
