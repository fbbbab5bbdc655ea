"""What is remembered of each endpoint from look to look, so that counters become rates."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from placet.cli.top.samples import Numbers, by, increase, total

__all__ = ["Answer", "Known", "after", "once_each"]

_NOTHING: Final[Numbers] = {}


class Answer(NamedTuple):
    """What one endpoint said: the numbers of its scrape, or in `error` why there are none. `at_s` is monotonic."""

    endpoint: str
    at_s: float
    numbers: Numbers | None
    error: str = ""


class Known(NamedTuple):
    """What is remembered of one endpoint: its last numbers, those before, and what came in between."""

    endpoint: str
    first_s: float
    answered_s: float | None = None
    error: str = ""
    numbers: Numbers = _NOTHING
    before: Numbers = _NOTHING
    grown: Numbers = _NOTHING
    seconds: float | None = None  # between the last two answers; None where there is no rate
    restarted: bool = False

    @property
    def name(self) -> tuple[str, str, str]:
        """App, gate and version, as it told them; "" before it ever answered."""
        names = by(self.numbers, "placet_build_info", "app", "gate", "version")
        return next(((app, gate, version) for app, gate, version in names), ("", "", ""))

    @property
    def answers(self) -> bool:
        """Whether it answered at the last look."""
        return bool(self.numbers) and not self.error

    def started_s(self) -> float | None:
        """When its process began, seconds since the epoch; None where the system does not tell (macOS)."""
        return total(self.numbers, "process_start_time_seconds")

    def rate(self, count: float | None) -> float | None:
        """What this many are in a second."""
        return None if self.seconds is None or count is None else count / self.seconds


def after(known: Known | None, answer: Answer) -> Known:
    """Return what is known of an endpoint after another answer, or none."""
    endpoint, at_s, numbers, error = answer
    if known is None:
        known = Known(endpoint, at_s)
    if numbers is None:
        return known._replace(error=error)
    now = known._replace(answered_s=at_s, error="", numbers=numbers, before={}, grown={}, seconds=None, restarted=False)
    if known.answered_s is None or at_s <= known.answered_s:
        return now
    restarted = _is_another_process(known, now)
    before = {} if restarted else known.numbers
    return now._replace(
        before=before, grown=increase(before, numbers), seconds=at_s - known.answered_s, restarted=restarted
    )


def _is_another_process(before: Known, now: Known) -> bool:
    if before.name[:2] != now.name[:2] or before.started_s() != now.started_s():
        return True
    counted = [(total(one.numbers, "placet_transactions_total") or 0) for one in (before, now)]
    return counted[1] < counted[0]


def once_each(known: Iterable[Known]) -> Iterator[Known]:
    """Leave out what is there twice: one process may answer at two addresses."""
    seen: set[object] = set()
    for one in known:
        process = (one.name, one.started_s()) if one.answers and one.started_s() is not None else one.endpoint
        if process not in seen:
            seen.add(process)
            yield one
