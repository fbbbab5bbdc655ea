"""Windows: how many inputs an entity accepted within a time, or what they add up to; and limits, which ask for that.

    accepted at log time t    counts while log_time - t < within, and since <= t
    refused, or a repeat      never counts

`since` is the log time from which on the task keeps the window. What is accepted in the millisecond before, in which
older rules decided last, counts as of then. What an expression reads is as it was before its own input. What windows
hold has a bound: beyond it they forget their oldest inputs, and limits refuse until the forgotten ones would have left.
So they do where a window is kept for a shorter time than it reaches back.
"""

from __future__ import annotations

from typing import Final, final

from placet.processors.expressions.scope import Compiled, Failed, Scope
from placet.processors.refusal import Refusal
from placet.schemas.decision import NOT_BEFORE, Reason
from placet.schemas.definition.model import Definition
from placet.schemas.definition.windows import WindowRule
from placet.schemas.ledger import KeptWindow
from placet.schemas.memory import Counts
from placet.schemas.messages import Message

__all__ = [
    "COUNTED_MAX",
    "KEPT_ALWAYS",
    "NO_VALUES",
    "PROPOSERS_MAX",
    "Limit",
    "Window",
    "counts_after",
    "first_limit_broken",
    "values_of",
    "windows_kept",
    "windows_of",
]

COUNTED_MAX: Final = 1_000
"""How many inputs a window holds of an entity: they lie in its state, which each change writes whole."""
PROPOSERS_MAX: Final = 64
"""How many proposers a window tells apart. Each text is stored once for all of its inputs."""
_PROPOSER_LENGTH_MAX: Final = 64
"""Characters of a proposer's name that are looked at: longer names that begin alike share a window."""

NO_VALUES: Final[dict[str, int]] = {}
KEPT_ALWAYS: Final[dict[str, KeptWindow]] = {}
"""The windows that are kept, where nothing says that it is not for ever."""
_NOTHING: Final[dict[str, list[int]]] = {}
_NONE_OF_HIS: Final[list[int]] = []


@final
class Window:
    """A window of a definition, compiled.

    Attributes:
        input_name: the input that it counts.
        field: of its payload, the one whose values it sums; "" where it counts inputs.
        what: what it counts, in one line. Windows that count the same have it in common, and read their part of it.
    """

    def __init__(self, name: str, rule: WindowRule) -> None:
        self.name = name
        self.input_name = rule.input_name
        self.field = rule.field
        self.what = rule.what
        self.within_ms = rule.within_ms
        self.by_proposer = rule.by is not None
        self.starts_empty = rule.start is not None

    def key(self, proposer: str) -> str:
        """Return by whom an input is counted."""
        return proposer[:_PROPOSER_LENGTH_MAX] if self.by_proposer else ""

    def begin(self, log_time: int, kept: dict[str, KeptWindow]) -> int:
        """Return the earliest log time that counts: states may hold what was counted before the window was kept."""
        begin, found = log_time - self.within_ms + 1, kept.get(self.name)
        return begin if found is None else max(begin, found.since)


@final
class Limit:
    """A limit of a proposal: its text, and the windows that it reads; of a function nobody knows which, so all."""

    def __init__(self, text: str, compiled: Compiled, windows: dict[str, Window]) -> None:
        self.text = text
        self.evaluate = compiled.evaluate
        read = [window for name, window in windows.items() if f"window.{name}" in compiled.reads]
        self.windows = tuple(windows.values()) if compiled.call is not None else tuple(read)


def windows_of(definition: Definition) -> dict[str, Window]:
    """Return a definition's windows by name."""
    return {name: Window(name, rule) for name, rule in definition.windows.items()}


def values_of(
    windows: dict[str, Window], counts: Counts | None, proposer: str, kept: dict[str, KeptWindow], log_time: int
) -> dict[str, int]:
    """Return what expressions read of the windows, by name.

    Args:
        windows: the definition's.
        counts: what they hold of the entity.
        proposer: the input's.
        kept: the windows that the task keeps, by name.
        log_time: the input's, ms.
    """
    return {
        name: _sum(_of(window, counts).get(window.key(proposer), _NONE_OF_HIS), window.begin(log_time, kept))
        for name, window in windows.items()
    }


def counts_after(
    windows: dict[str, Window], counts: Counts | None, message: Message, kept: dict[str, KeptWindow], log_time: int
) -> Counts | None:
    """Return what windows hold after an accepted input, without what counts in none of them.

    Args:
        windows: the definition's.
        counts: what they hold of the entity before.
        message: the input.
        kept: the windows that the task keeps, by name.
        log_time: the input's, ms.
    """
    begins: dict[str, int] = {}
    at: dict[str, int] = {}
    for window in windows.values():
        what, begin = window.what, window.begin(log_time, kept)
        begins[what] = min(begin, begins.get(what, begin))
        at[what] = max(log_time, begin, at.get(what, 0))
    after: Counts = {}
    for window in windows.values():
        if window.what in after:
            continue
        by = _all_left(_of(window, counts), begins[window.what])
        if window.input_name == message.name:
            key = window.key(message.proposer)
            amount = message.payload[window.field] if window.field else 1
            assert isinstance(amount, int), "definitions sum whole numbers that are never null"
            before = by.get(key, _NONE_OF_HIS)
            by[key] = [*before, max(at[window.what], before[-2]) if before else at[window.what], amount]
            _keep_the_bound(by)
        if by:
            after[window.what] = by
    return after or None


def first_limit_broken(
    limits: tuple[Limit, ...],
    counts: Counts | None,
    kept: dict[str, KeptWindow],
    scope: Scope,
    log_time: int,
) -> Refusal | None:
    """Return why a proposal is refused by one of its limits, or None.

    Args:
        limits: the proposal's.
        counts: what windows hold of the entity.
        kept: the windows that the task keeps, by name.
        scope: what the limits see.
        log_time: the proposal's, ms.
    """
    for limit in limits:
        for window in limit.windows:
            unknown = _not_known(window, counts, kept, log_time)
            if unknown:
                return Refusal(Reason.RATE_LIMITED, f"limit `{limit.text}`: {unknown}")
        held = limit.evaluate(scope)
        if held is False:
            return Refusal(Reason.RATE_LIMITED, _broken(limit, counts, kept, scope, log_time))
        if held is not True:
            detail = held.detail if isinstance(held, Failed) else f"not a boolean: {held!r}"
            return Refusal(Reason.GUARD_ERROR, f"limit `{limit.text}`: {detail}")
    return None


def windows_kept(
    windows: dict[str, Window], before: tuple[KeptWindow, ...], begin: int, memory_since: int
) -> tuple[KeptWindow, ...]:
    """Return the windows that a task keeps, from the first transaction of some rules on.

    Args:
        windows: those of the rules.
        before: those of the rules before.
        begin: the earliest log time that was not decided by the rules before.
        memory_since: the earliest one that was decided by none that are forgotten.
    """
    known = {kept.name: kept for kept in before}
    return tuple(_kept(window, known.get(name), begin, memory_since) for name, window in windows.items())


def _kept(window: Window, before: KeptWindow | None, begin: int, memory_since: int) -> KeptWindow:
    since, complete_since = begin, max(begin, memory_since)
    if before is not None and before.what == window.what:
        since, complete_since = before.since, before.complete_since
        if window.within_ms > before.within_ms:  # what had left it until then is not known
            since, complete_since = max(since, begin - before.within_ms), max(complete_since, begin - before.within_ms)
    return KeptWindow(window.name, window.what, window.within_ms, since, complete_since)


def _of(window: Window, counts: Counts | None) -> dict[str, list[int]]:
    return _NOTHING if counts is None else counts.get(window.what, _NOTHING)


def _sum(entries: list[int], begin: int) -> int:
    total, at = 0, len(entries) - 2
    while at >= 0 and entries[at] >= begin:
        total += entries[at + 1]
        at -= 2
    return total


def _left(entries: list[int], begin: int) -> list[int]:
    """What is left of some entries from a log time on; the same list where that is all."""
    at = 0
    while at < len(entries) and entries[at] < begin:
        at += 2
    return entries[at:] if at else entries


def _all_left(by: dict[str, list[int]], begin: int) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for key, entries in by.items():
        left = _left(entries, begin)
        if left:
            found[key] = left
    return found


def _keep_the_bound(by: dict[str, list[int]]) -> None:
    """Forget the oldest inputs beyond the bound; of two of the same time, those of the first proposer by name."""
    while len(by) > PROPOSERS_MAX or sum([len(entries) for entries in by.values()]) > 2 * COUNTED_MAX:
        _, key = min([(entries[0], key) for key, entries in by.items()])
        left = by[key][2:]
        if left:
            by[key] = left
        else:
            del by[key]


def _not_known(window: Window, counts: Counts | None, kept: dict[str, KeptWindow], log_time: int) -> str:
    """Say why a window may have counted more than it holds, and until when; "" where all of it is there."""
    within_ms, found = window.within_ms, kept.get(window.name)
    if found is not None and found.complete_since > log_time - within_ms + 1 and not window.starts_empty:
        known_from = found.complete_since
        return f"`window.{window.name}` is kept since {known_from}{NOT_BEFORE}{known_from + within_ms - 1}"
    held = _all_left(_of(window, counts), window.begin(log_time, kept))
    if len(held) < PROPOSERS_MAX and sum([len(entries) for entries in held.values()]) < 2 * COUNTED_MAX:
        return ""
    leaves = min([entries[0] for entries in held.values()]) + within_ms
    return f"`window.{window.name}` is full{NOT_BEFORE}{leaves}"


def _broken(limit: Limit, counts: Counts | None, kept: dict[str, KeptWindow], scope: Scope, log_time: int) -> str:
    """Say that a limit is false, and when the first of what it counts leaves: waiting less changes nothing."""
    read = ", ".join([f"window.{window.name} is {scope.window[window.name]}" for window in limit.windows])
    leaves = []
    for window in limit.windows:
        own = _of(window, counts).get(window.key(scope.proposer), _NONE_OF_HIS)
        left = _left(own, window.begin(log_time, kept))
        if left:
            leaves.append(left[0] + window.within_ms)
    until = f"{NOT_BEFORE}{min(leaves)}" if leaves else "; nothing is counted that could leave"
    return f"limit `{limit.text}` is false: {read}{until}"
