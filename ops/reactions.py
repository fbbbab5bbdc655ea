"""The page of reactions: what `ops.staged_failures` found out, as tables."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from typing import Final

from ops.staged_failures import ERRORS, GOES_ON, NEVER_FAIL, STORE_ERRORS, staged
from placet.streams.errors import (
    ClockSkew,
    FatalError,
    LogUnreachable,
    ProducerFenced,
    TaskCorrupted,
    TaskMigrated,
    TaskStopped,
    TransactionAborted,
)

__all__ = ["meanings", "reactions_page"]

REACTIONS: Final = (
    TransactionAborted, LogUnreachable, TaskMigrated, ProducerFenced, TaskCorrupted, TaskStopped, ClockSkew, FatalError,
)  # fmt: skip
WORDS: Final[Mapping[str, str]] = {
    GOES_ON: "goes on",
    "waits": "waits, and tries again",
    "BrokerUnreachable": "`LogUnreachable`",
    "SettingsError": "`SettingsError`",
}
PAGE: Final = """# What a gate does when a call fails

*For whoever reads a gate's log, or changes what it does: each call into Kafka's client, a store or the disk, each way
in which it fails, and the reaction.*

`ops/staged_failures.py` finds this out: it runs the gate's own code on clients and stores of which one call fails.
Reactions are named by the errors of `placet/streams/errors.py`; `SettingsError` ends a start or a command with a
sentence. "Goes on" stands where nothing is raised: the next call does it, or nobody needs the answer. Where no way is
named, the reaction is the same to all:
{ways}.
"""

BELONGING: Final = """
## What is in force, and can't be run here

| found in a publication | reaction |
| --- | --- |
| one whose function, ladder or schema the gate lacks | `TaskMigrated`: it joins anew, without its topics |
| and that was its last one | the same, but it waits outside the group; `/readyz` says no |
| it can run one again, as after a withdrawal | `TaskMigrated`: it joins anew, with its topics |

## What is there, and should not be

Every 30 s a gate asks what its topics are like now, and waits for no answer. No answer, no right to look and a broker
that is away speak against nothing. Only another id is believed at once. All else has to be said for 10 s, question
after question: a broker may not have heard of a topic yet, and a leader that was deposed tells what was.

| found while tasks run | reaction |
| --- | --- |
| another id of a topic: it was made anew | `TaskStopped`: the tasks of its entity type; of the control topic: all |
| no broker knows the topic | the same |
| another number of partitions of a topic of the entity type | the same, as a start refuses it |
| changelog or ledger begins later than at offset 0: records were removed | `TaskStopped`: the task of that partition |
| the control topic ends before the position to which its rules were read | `TaskStopped`: all tasks |
| a setting that a start would refuse, `cleanup.policy` for one | goes on; an event, and `placet_topic_faults` |

A setting stops nothing: what brokers remove by it they remove whether tasks run or not, inputs that wait are lost
sooner than inputs that were decided, and nothing is gone yet. Once something is, the rows above tell. Nor does
`/readyz` tell it: a gate that a supervisor starts again would not come up on such a topic.

A restore looks at the same, but for settings and, where it has a store, partitions. It compares the ids with those in
the ledger's genesis too.
"""


def reactions_page() -> str:
    parts = [PAGE.format(ways=", ".join([*ERRORS, *STORE_ERRORS])), "## Reactions", "", meanings(), "", "## Calls", ""]
    rows: dict[tuple[str, str, str], list[str]] = {}
    for row in staged():
        text = summary(row.reactions, listed=row.protocol == "Message")
        calls = rows.setdefault((row.protocol, row.by, text), [])
        if row.call not in calls:
            calls.append(row.call)
    head = ["| who | calls | reaction |", "| --- | --- | --- |"]
    lines = [
        f"| {by} ({kind_of(protocol)}) | {', '.join(f'`{call}`' for call in calls)} | {text} |"
        for (protocol, by, text), calls in rows.items()
    ]
    never = [
        f"| anybody ({kind_of(protocol)}) | `{call}` | none: it {why} |" for (protocol, call), why in NEVER_FAIL.items()
    ]
    return "\n".join([*parts, *head, *lines, *never, BELONGING])


def kind_of(protocol: str) -> str:
    """Return what a protocol stands for: the client's part, or the store and its disk."""
    return {"StateStore": "store", "Message": "message"}.get(protocol, protocol.removesuffix("Calls").lower())


def meanings() -> str:
    """What each reaction is, in the words of the error's docstring."""
    rows = [f"| `{error.__name__}` | {reaction_of(error)} |" for error in REACTIONS]
    return "\n".join(["| error | reaction |", "| --- | --- |", *rows])


def reaction_of(error: type[Exception]) -> str:
    text = " ".join((inspect.getdoc(error) or "").split())
    return re.split(r" Operator action:", text.partition("Reaction: ")[2])[0]


def summary(reactions: Mapping[str, str], *, listed: bool) -> str:
    """The most frequent reaction first, then the others with the ways that lead to them."""
    ways: dict[str, list[str]] = {}
    for way, name in reactions.items():
        ways.setdefault(WORDS.get(name, f"`{name}`"), []).append(way)
    if len(ways) == 1:
        return next(iter(ways))
    usual = max(ways, key=lambda name: len(ways[name]))
    if listed or len(ways[usual]) < 3:
        return "; ".join(f"{', '.join(found)}: {name}" for name, found in ways.items())
    return "; ".join([usual, *(f"{', '.join(found)}: {name}" for name, found in ways.items() if name != usual)])
