"""One advisor as a process of its own, on the harness: `python -m demo.advisors desk|learner --diary FILE`.

It thinks as long as a model would: lognormal, mostly below a second, now and then for many. What it proposes is based
on what it had read before. Nothing is scripted: whatever comes too late, twice or in conflict comes from thinking while
the world moves on, from two minds at one desk, and from asking again when no answer came.

The diary is one JSON object each half second, for the live view and the report.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from threading import Thread
from typing import Any, NamedTuple

from demo.minds import OPEN, Desk, Idea, Learner, Mind
from placet.advisor import Advice, Advisor, Limits, Signal, Snapshot
from placet.schemas.errors import PlacetError

DEFINITION = Path(__file__).with_name("flight.yaml")
SIGMA = 1.0
"""Of the lognormal time to think: one thought of a hundred takes ten times as long as the median."""
DIARY_EACH_S = 0.5
LIMITS = Limits(
    ceiling=400, queue=20_000, timeout_s=60, decision_timeout_s=2.5, failures=200, open_s=2, settle_s=0.3, grace_s=2
)
"""An impatient caller: 2.5 s without an answer, and it asks again. Far more than a takeover's length of failures opens
the breaker, as the demo is to show what impatience does."""


OVER = ("answered", "given_up")
"""What the harness counts once a fact is thought about to the end."""


def clock_ms() -> int:
    """Return this machine's clock, ms since the epoch."""
    return time.time_ns() // 1_000_000


class Kind(NamedTuple):
    """A kind of advisor: how its mind is made, and the median of its thoughts in seconds of a day of 8 s."""

    mind: Callable[[], Mind]
    thinks_s: float


KINDS = {"desk": Kind(Desk, 0.5), "learner": Kind(Learner, 1.0)}


class Thinker:
    """Connects a mind with the harness.

    Args:
        name: of the advisor.
        mind: has the ideas.
        thinks_s: median of a thought.
        seed: of how long thoughts take.
    """

    def __init__(self, name: str, mind: Mind, thinks_s: float, seed: int) -> None:
        self.advisor = Advisor(DEFINITION, name=name, limits=LIMITS)
        self.mind, self.thinking = mind, 0
        self._model = f"{name}-1"
        self._thinks_s, self._random = thinks_s, Random(f"{name}-{seed}")
        self._told: set[tuple[str, str]] = set()
        names = tuple(self._known_signals())
        self.advisor.on(*names)(self.think)

    @staticmethod
    def _known_signals() -> list[str]:
        return ["flight_scheduled", "delay_estimated", "flight_departed", "flight_arrived", "flight_cancelled"]

    async def think(self, signal: Signal, flight: Snapshot) -> Advice | None:
        """Think about a fact: the harness gives the flight as it stands, and proposes what comes out."""
        if not flight.exists:
            return None
        ideas = self.mind.ideas(signal.name, flight.entity_id, {"status": flight.status, **flight.fields})
        if not ideas:
            return None
        read_at = {"read_at": str(clock_ms())}
        others = await self._read_others(signal, ideas)
        self.thinking += 1
        try:
            await asyncio.sleep(self._thinks_s * self._random.lognormvariate(0, SIGMA))
        finally:
            self.thinking -= 1
        for idea, read in others:
            self._propose(signal, idea, read, read_at)
        own = next((idea for idea in ideas if idea.entity == flight.entity_id), None)
        if own is None:
            return None
        return Advice(own.name, own.payload, rationale=own.why, model=self._model, metadata=read_at)

    async def _read_others(self, signal: Signal, ideas: list[Idea]) -> list[tuple[Idea, Snapshot]]:
        """Read what further ideas are about, before the thought: each once for a fact, however often it is thought."""
        further = ideas[1:]
        fresh = [idea for idea in further if (signal.signal_id, idea.name) not in self._told]
        self._told.update((signal.signal_id, idea.name) for idea in fresh)
        return [(idea, await self.advisor.client.read(idea.entity)) for idea in fresh]

    def _propose(self, signal: Signal, idea: Idea, read: Snapshot, read_at: dict[str, str]) -> None:
        """Propose, and let go: this advisor waits only for what the harness proposes."""
        if read.status in OPEN:
            self.advisor.client.propose(
                read, idea.name, idea.payload, caused_by=signal.signal_id, rationale=idea.why, model=self._model,
                proposer=self.advisor.name, metadata=read_at,
            )  # fmt: skip

    def diary(self) -> dict[str, Any]:
        """Return how it stands."""
        counts = dict(self.advisor.counts)
        over = sum(count for what, count in counts.items() if what in OVER or what.startswith("dropped_"))
        entry = {"at_ms": clock_ms(), "thinking": self.thinking, "over": over, "counts": counts}
        if isinstance(self.mind, Learner):
            mind = self.mind
            entry |= {"learned": mind.learned, "error_min": mind.error_min, "naive_min": mind.naive_min}
        return entry


def _keep_diary(thinker: Thinker, diary: Path) -> None:
    with diary.open("a") as out:
        while True:
            out.write(json.dumps(thinker.diary()) + "\n")
            out.flush()
            time.sleep(DIARY_EACH_S)


def main() -> int:
    """Run one advisor until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m demo.advisors", description=__doc__)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--diary", type=Path, required=True, help="where it writes how it stands, as JSON lines")
    parser.add_argument("--seed", type=int, default=2013, help="of how long thoughts take")
    parser.add_argument("--pace", type=float, default=1.0, help="a day's length in units of 8 s: thoughts go along")
    asked = parser.parse_args()
    kind = KINDS[asked.kind]
    thinker = Thinker(asked.kind, kind.mind(), kind.thinks_s * asked.pace, asked.seed)
    Thread(target=_keep_diary, args=(thinker, asked.diary), name="diary", daemon=True).start()
    try:
        return thinker.advisor.run()
    except PlacetError as error:
        print(f"{asked.kind}: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
