"""What each topic must be like, as a table: settings by role, with the reason for each. Pure.

Roles are those of `EntityTopics`, and `control`, `gates` and `dead-letters` of the whole app.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Final, NamedTuple

from placet.schemas.definition.model import Definition
from placet.streams.topology import control_topic, dead_letters_topic, entity_topics, gates_topic

__all__ = [
    "DEFAULT_PARTITIONS",
    "RECORD_BYTES_MAX",
    "TWO_IN_SYNC",
    "AlterWhen",
    "Must",
    "Need",
    "TopicSpec",
    "needs_of",
    "output_bytes_max",
    "required_topics",
    "topics_of",
]

DEFAULT_PARTITIONS: Final = 6
"""Of a new entity type: room for six gates. More can't be had later."""

RECORD_BYTES_MAX: Final = 1_048_588
"""Largest input record by default, in bytes: Kafka's own `max.message.bytes`."""

_DAY_MS: Final = 86_400_000
_RETENTION_MS: Final = 7 * _DAY_MS
_COMPACTION_MARGIN_MS: Final = 120_000
"""A memory counts for the horizon and 60 s (CLOCK_AHEAD_MAX_MS) of log time; the rest is for late timers."""
_OUTAGE_MS: Final = _DAY_MS
"""Compaction goes by the wall clock, the memory by log time: so long may the gates be away, lose their disks too, and
still know what the inputs that waited are repeats of."""
_ENVELOPE_BYTES: Final = 65_536


class Must(StrEnum):
    """How a setting is compared with what is needed."""

    IS = "must be"
    AT_LEAST = "must be at least"
    AT_MOST = "must be at most"


class AlterWhen(StrEnum):
    """When `apply` may change a setting that is not as needed."""

    ALWAYS = "always"
    UNWRITTEN = "unwritten"
    NEVER = "never"


class Need(NamedTuple):
    """One setting of a topic, what it must be and why. A new topic gets `wanted`, or `value` where that is empty."""

    config: str
    must: Must
    value: str
    why: str
    wanted: str = ""
    change: AlterWhen = AlterWhen.ALWAYS
    advice: str = ""

    def met_by(self, found: str | None) -> bool:
        """Compare. Negative numbers mean "no limit" in Kafka."""
        if found is None:
            return False
        if self.must is Must.IS:
            return found == self.value
        number, bound = int(found), int(self.value)
        return number <= bound if self.must is Must.AT_MOST else number >= bound or number < 0


class TopicSpec(NamedTuple):
    """One topic as it must be. Topics of one `group` have the same number of partitions.

    `partitions` is None where any number will do: that of the group's existing topics, else `default_partitions`.
    """

    name: str
    role: str
    group: str
    partitions: int | None
    default_partitions: int
    needs: tuple[Need, ...]


_RECREATE = (
    "Its records came under another rule. If they may go, delete the topic and run `placet topics apply`; if they must "
    "stay and the rule does no harm to them, change the setting by hand."
)
_LOG_APPEND_TIME = Need(
    "message.timestamp.type", Must.IS, "LogAppendTime",
    "dedup, horizon and retention run on the broker's time; producers' times may be anything",
    change=AlterWhen.UNWRITTEN, advice=_RECREATE,
)  # fmt: skip
_CLEAN_LEADERS = Need(
    "unclean.leader.election.enable", Must.IS, "false", "an unclean leader forgets what was committed"
)
TWO_IN_SYNC = Need(
    "min.insync.replicas", Must.AT_LEAST, "2", "with one replica in sync, its loss takes committed records along"
)
_COMPACT = Need(
    "cleanup.policy", Must.IS, "compact", "the last record of each key must stay for ever",
    change=AlterWhen.UNWRITTEN, advice=_RECREATE,
)  # fmt: skip
_NEVER_COMPACTED = Need(
    "min.compaction.lag.ms", Must.IS, str(2**63 - 1), "what was in force at each offset must stay known"
)
_DELETE = Need(
    "cleanup.policy", Must.IS, "delete", "compaction would drop records of the same key, decided or not",
    change=AlterWhen.UNWRITTEN, advice=_RECREATE,
)  # fmt: skip


_DELETE_ANSWERED: Final = _DELETE._replace(why="nobody needs questions and answers later")
_OF_THE_MOMENT: Final = Need(
    "retention.ms", Must.AT_LEAST, str(3_600_000), "a question must be there until all have answered",
    wanted=str(_DAY_MS),
)  # fmt: skip


def output_bytes_max(record_bytes_max: int) -> int:
    """Largest record that the gate writes: a dead letter, which carries an input and what is known about it."""
    return 2 * record_bytes_max + _ENVELOPE_BYTES


def needs_of(role: str, horizon_ms: int, record_bytes_max: int) -> tuple[Need, ...]:
    """Return what a topic of this role must be like.

    Args:
        role: signals, proposals, decisions, changelog, ledger, control, gates or dead-letters.
        horizon_ms: the entity type's horizon; for topics of the whole app the longest.
        record_bytes_max: largest input record, in bytes.
    """
    retention = Need(
        "retention.ms", Must.AT_LEAST, str(horizon_ms), "`placet verify` needs what the horizon covers",
        wanted=str(max(_RETENTION_MS, horizon_ms + _COMPACTION_MARGIN_MS)),
    )  # fmt: skip
    no_byte_limit = Need("retention.bytes", Must.IS, "-1", "a limit in bytes deletes records before their time")
    lag = Need(
        "min.compaction.lag.ms", Must.AT_LEAST, str(horizon_ms + _COMPACTION_MARGIN_MS),
        "within the horizon and 2 min the log is the dedup memory and the history",
        wanted=str(horizon_ms + _COMPACTION_MARGIN_MS + _OUTAGE_MS),
    )  # fmt: skip
    no_haste = Need(
        "max.compaction.lag.ms", Must.IS, str(2**63 - 1), "nothing may hasten compaction but the cleaner's own need"
    )
    tombstones = Need(
        "delete.retention.ms",
        Must.AT_LEAST,
        str(_DAY_MS),
        "a local store that was away must still see what was deleted",
    )
    fits = Need(
        "max.message.bytes", Must.AT_LEAST, str(record_bytes_max + _ENVELOPE_BYTES),
        "what follows from the largest input must fit",
    )  # fmt: skip
    kept, compacted = (_DELETE, retention, no_byte_limit), (_COMPACT, lag, no_haste, tombstones, fits)
    by_role: dict[str, tuple[Need, ...]] = {
        "signals": (*kept, _input_limit(record_bytes_max)),
        "proposals": (*kept, _input_limit(record_bytes_max)),
        "decisions": (*kept, fits),
        "changelog": compacted,
        "ledger": compacted,
        "control": (_COMPACT, _NEVER_COMPACTED, fits),
        "gates": (_DELETE_ANSWERED, _OF_THE_MOMENT, fits),
        "dead-letters": (_DELETE, retention, fits._replace(
            value=str(output_bytes_max(record_bytes_max)), why="a dead letter carries an input of any size"
        )),
    }  # fmt: skip
    return (_LOG_APPEND_TIME, _CLEAN_LEADERS, *by_role[role])


def _input_limit(record_bytes_max: int) -> Need:
    return Need(
        "max.message.bytes", Must.AT_MOST, str(record_bytes_max), "the dead letters must hold every input",
        change=AlterWhen.NEVER, advice="Set PLACET_RECORD_BYTES_MAX to the topic's limit, or lower that limit by hand.",
    )  # fmt: skip


def required_topics(
    app: str,
    definitions: Sequence[Definition],
    partitions: int | None = None,
    record_bytes_max: int = RECORD_BYTES_MAX,
) -> list[TopicSpec]:
    """Return the topics that an app with these definitions needs.

    Args:
        app: prefix of all names.
        definitions: one for each entity type.
        partitions: of the topics of every entity type; None for what is there, else the default.
        record_bytes_max: largest input record, in bytes.
    """
    horizons_ms = {definition.entity: definition.horizon_ms for definition in definitions}
    return topics_of(app, horizons_ms, partitions, record_bytes_max)


def topics_of(
    app: str, horizons_ms: Mapping[str, int], partitions: int | None, record_bytes_max: int
) -> list[TopicSpec]:
    """Return the topics of an app, see `required_topics`; of each entity type the horizon is all that matters."""
    specs = [
        TopicSpec(name, role, entity, partitions, DEFAULT_PARTITIONS, needs_of(role, horizon_ms, record_bytes_max))
        for entity, horizon_ms in horizons_ms.items()
        for role, name in entity_topics(app, entity)._asdict().items()
    ]
    longest_ms = max(horizons_ms.values(), default=0)
    of_the_app = (
        ("control", control_topic(app), 1), ("gates", gates_topic(app), 1),
        ("dead-letters", dead_letters_topic(app), None),
    )  # fmt: skip
    for role, name, count in of_the_app:
        specs.append(TopicSpec(name, role, name, count, 1, needs_of(role, longest_ms, record_bytes_max)))
    return specs
