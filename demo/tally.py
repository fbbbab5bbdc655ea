"""What was seen while it ran: decisions by second, outcome and reason, how long each took, and the takeover. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any, NamedTuple

from placet.schemas.decision import REASONS, Coordinates, Decision, Outcome, Reason
from placet.schemas.messages import Kind

What = tuple[Kind, Outcome, Reason]


class Kill(NamedTuple):
    """A gate that was killed: when, and which partitions it decided on. Milliseconds since the epoch."""

    gate: str
    at_ms: int
    partitions: tuple[int, ...]


class Tally:
    """Counts decisions as they become visible. Times are milliseconds since the epoch of this machine's clock.

    Attributes:
        began_ms: when the first fact went out.
        decided: how many decisions were seen.
        counts: of each kind of decision.
        seconds: the same by second since `began_ms`.
        by_proposer: of proposals, by who proposed; filled in from the log afterwards.
        kill: the gate that was killed, once it was.
        stopped_ms, went_on_ms: when the advisors stood still, and when they went on; 0 before that.
        told_ms: when each decision became visible by which a rule acted, as no advisor had.
        timers: how many decisions on timers were seen.
    """

    def __init__(self, began_ms: int) -> None:
        self.began_ms = began_ms
        self.decided = 0
        self.counts: Counter[What] = Counter()
        self.seconds: defaultdict[int, Counter[What]] = defaultdict(Counter)
        self.kill: Kill | None = None
        self.restarted_ms = 0
        self.stopped_ms = self.went_on_ms = 0
        self.told_ms: list[int] = []
        self.timers = 0
        self._waited_ms: defaultdict[int, list[int]] = defaultdict(list)
        self._taken_over_ms: dict[int, int] = {}
        self._now: dict[int, Counter[What]] = {}

    def take(self, now_ms: int, decided: Iterable[tuple[Decision, Coordinates]]) -> None:
        """Count decisions that became visible now."""
        second = max(0, now_ms - self.began_ms) // 1_000
        for decision, at in decided:
            if decision.kind is Kind.TIMER:
                self.timers += 1
                self.told_ms += [now_ms] if decision.outcome is Outcome.ACCEPTED else []
                continue
            what = (decision.kind, decision.outcome, decision.reason)
            self.counts[what] += 1
            self.seconds[second][what] += 1
            self.decided += 1
            self._waited_ms[second].append(max(0, now_ms - at.log_time))
            if self.kill is not None and at.decided_at > self.kill.at_ms:
                self._taken_over_ms.setdefault(at.partition, now_ms)

    def takeover_ms(self) -> dict[int, int]:
        """Return, by partition of the gate that was killed, the time from the kill to its next visible decision."""
        if self.kill is None:
            return {}
        seen = self._taken_over_ms
        return {n: seen[n] - self.kill.at_ms for n in self.kill.partitions if n in seen}

    def is_taken_over(self) -> bool:
        """Tell whether every partition of the gate that was killed is decided on again."""
        return self.kill is not None and len(self.takeover_ms()) == len(self.kill.partitions)

    def latency(self) -> dict[str, Any]:
        """Return how long it took from an input's place on the log to a decision that anyone can read, in ms."""
        everything = sorted(waited for second in self._waited_ms.values() for waited in second)
        by_second = [
            {"second": second, "p50": quantile(waited, 0.5), "p99": quantile(waited, 0.99)}
            for second, waited in sorted((second, sorted(found)) for second, found in self._waited_ms.items())
        ]
        return {
            "p50": quantile(everything, 0.5), "p90": quantile(everything, 0.9), "p99": quantile(everything, 0.99),
            "max": everything[-1] if everything else 0, "by_second": by_second,
        }  # fmt: skip

    def outcomes(self) -> list[dict[str, Any]]:
        """Return the decisions by outcome and reason, the most frequent first."""
        rows: Counter[tuple[Outcome, Reason]] = Counter()
        for (_, outcome, reason), count in self.counts.items():
            rows[outcome, reason] += count
        return [
            {
                "outcome": outcome.name, "reason": reason.name if reason else "", "meaning": REASONS[reason].meaning,
                "facts": self.counts[Kind.SIGNAL, outcome, reason],
                "proposals": self.counts[Kind.PROPOSAL, outcome, reason],
            }
            for (outcome, reason), _ in rows.most_common()
        ]  # fmt: skip

    def by_second(self) -> list[dict[str, Any]]:
        """Return what was decided in each second, without gaps: facts, and proposals by what became of them."""
        return [
            {"second": second, "facts": _facts(found), "proposals": dict(_proposals(found))}
            for second in range(max(self.seconds, default=-1) + 1)
            for found in [self.seconds.get(second, Counter())]
        ]


def quantile(ordered: list[int], share: float) -> int:
    """Return the value that so large a share of sorted values does not exceed; 0 of none."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0


def _facts(found: Counter[What]) -> int:
    return sum(count for (kind, _, _), count in found.items() if kind is Kind.SIGNAL)


def _proposals(found: Counter[What]) -> Counter[str]:
    counted: Counter[str] = Counter()
    for (kind, outcome, reason), count in found.items():
        if kind is Kind.PROPOSAL:
            counted[reason.name if reason else outcome.name] += count
    return counted
