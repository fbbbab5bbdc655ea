"""The partitions of a frame: who has which, how fast it goes there, how far a restore is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias

from msgspec.structs import replace

from placet.cli.top.frame import Partition, PartitionPhase, Restore
from placet.cli.top.known import Known
from placet.cli.top.samples import Numbers, by, rounded, sum_of_known

__all__ = ["partitions_of"]

_Task: TypeAlias = tuple[str, str, int]  # app, entity type, partition


def partitions_of(answering: Sequence[Known], clock_s: float) -> tuple[Partition, ...]:
    """Return every partition that is known of, with the gates that have it.

    Args:
        answering: the gates.
        clock_s: the time of the look, in seconds since the epoch.
    """
    rows: dict[_Task, Partition] = {}
    for one in answering:
        for (entity,), count in by(one.numbers, "placet_partitions", "entity").items():
            for n in range(round(count)):
                task = (one.name[0], entity, n)
                rows.setdefault(task, Partition(app=task[0], entity=entity, partition=n, phase=PartitionPhase.NOBODY))
    for one in answering:
        for row in _tasks(one, clock_s):
            task = (row.app, row.entity, row.partition)
            rows[task] = _both(rows[task], row) if task in rows and rows[task].gates else row
    return tuple(rows[task] for task in sorted(rows))


def _both(one: Partition, other: Partition) -> Partition:
    """A partition that two gates name: it is on its way from one to the other. What it does counts for both."""
    return replace(
        other,
        gates=(*one.gates, *other.gates),
        decisions_per_s=sum_of_known((one.decisions_per_s, other.decisions_per_s)),
        lag_records=rounded(sum_of_known((one.lag_records, other.lag_records))),
    )


def _tasks(one: Known, clock_s: float) -> Iterator[Partition]:
    """The tasks of one gate."""
    app, name, _ = one.name
    rates = _by_task(one.grown, "placet_records_processed_total", app)
    lags = _by_task(one.numbers, "placet_lag_records", app)
    due_s = by(one.numbers, "placet_timer_next_due_timestamp_seconds", "entity", "partition")
    since = by(one.numbers, "placet_schema_wait_since_timestamp_seconds", "entity", "partition", "schema")
    waits = {(entity, partition): (schema, since_s) for (entity, partition, schema), since_s in since.items()}
    for (entity, partition, phase), is_in in by(
        one.numbers, "placet_task_phase", "entity", "partition", "phase"
    ).items():
        if is_in:
            task = (app, entity, int(partition))
            schema, since_s = waits.get((entity, partition), ("", clock_s))
            yield Partition(
                app=app,
                entity=entity,
                partition=task[2],
                phase=PartitionPhase(phase),
                gates=(name,),
                decisions_per_s=one.rate(rates.get(task, 0.0)),
                lag_records=rounded(lags.get(task)),
                timer_overdue_s=max(0.0, clock_s - due_s.get((entity, partition), clock_s)),
                schema=schema,
                schema_wait_s=max(0.0, clock_s - since_s),
                restore=_restore(one, entity, partition) if phase == PartitionPhase.RESTORING else None,
            )


def _by_task(numbers: Numbers, name: str, app: str) -> Mapping[_Task, float]:
    """Sum a metric of the input topics, `<app>.<entity>.<role>`, over the roles."""
    sums: dict[_Task, float] = {}
    for (topic, partition), value in by(numbers, name, "topic", "partition").items():
        task = (app, topic.removeprefix(f"{app}.").rpartition(".")[0], int(partition))
        sums[task] = sums.get(task, 0.0) + value
    return sums


def _restore(one: Known, entity: str, partition: str) -> Restore:
    def of(numbers: Numbers, name: str) -> float | None:
        return by(numbers, name, "entity", "partition").get((entity, partition))

    name = "placet_restore_remaining_records"
    read, ahead, before = (
        of(one.numbers, "placet_restoring_records") or 0.0,
        of(one.numbers, name),
        of(one.before, name),
    )
    pace = one.rate(before - ahead) if before is not None and ahead is not None else None
    return Restore(
        read_records=round(read),
        ahead_records=rounded(ahead),
        share=None if ahead is None else read / (read + ahead) if read + ahead else 1.0,
        left_s=ahead / pace if ahead is not None and pace is not None and pace > 0 else None,
    )
