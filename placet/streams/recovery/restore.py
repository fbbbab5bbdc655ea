"""From the log to a store that a task can run on: changelog first, then the ledger, then the checks.

The order matters: stable `committed()` -> end offsets read uncommitted -> both topics, committed records only, to
those ends -> compare. If the ends were read first, a dead owner's transaction that commits in between would be missed.
Any contradiction stops the task by name; nothing is repaired silently.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from typing import Final, TypeVar

import msgspec

from placet.processors.ladder import LADDER
from placet.schemas.ledger import Commit, Genesis
from placet.streams.errors import LogBehind, LogUnreachable, TaskCorrupted, TaskStopped
from placet.streams.kafka.admin_errors import UnknownTopic
from placet.streams.records import ConsumerRecord, TopicPartition
from placet.streams.recovery.changelog_copy import UNKNOWN, ChangelogCopy
from placet.streams.recovery.contradictions import (
    begins_later,
    ends_before_the_rules,
    was_deleted,
    was_made_anew,
)
from placet.streams.recovery.ledger_chain import LedgerChain
from placet.streams.recovery.log import RestoreLog
from placet.streams.recovery.steps import Restoration, Restored, RestoreStep, Steps
from placet.streams.state import layout

__all__ = ["WAITS_FOR_ROOM", "restore"]

TOMBSTONES_KEPT_MS: Final = 12 * 3_600_000
"""A store that missed records for longer is rebuilt: tombstones among them may be gone (they stay 24 h by default)."""
_ASK_AGAIN_S: Final = 0.1
_NOT_ENDED: Final = "a transaction has not ended (`kafka-transactions.sh find-hanging` names one that never will)"
WAITS_FOR_ROOM: Final = "other restores go first"

Answer = TypeVar("Answer")


def restore(job: Restoration, log: RestoreLog) -> Steps[Restored]:
    """Bring the store up to the log, and check that the log agrees with itself: step by step, without waiting.

    Closed early, it leaves a store that the next restore goes on with: from its place in the changelog, and from the
    place in the ledger from which this one began.

    Returns:
        What the task starts from.

    Raises:
        TaskCorrupted: the store is foreign or ahead of the log: set it aside and begin again with an empty one.
        LogBehind: one topic lacks what another one knows of.
        TaskStopped: the log contradicts itself.
        LogUnreachable: begin again with this store.
    """
    _check_stamp(job)
    inputs = [job.partition(topic) for topic in job.topics.inputs]
    committed = yield from _stable_positions(log, inputs)
    changelog, ledger = job.partition(job.topics.changelog), job.partition(job.topics.ledger)
    # Two questions at a time. Both come after the positions, and no order is needed between them.
    asked_ends = log.ask_ends([changelog, ledger, *([job.control] if job.control else [])])
    asked_starts = log.ask_starts([changelog, ledger, *inputs])
    try:
        targets, starts = (yield from _answers(asked_ends)), (yield from _answers(asked_starts))
    except LogUnreachable:
        yield from _check_topics(job, log)  # a topic that is gone has no leaders
        raise
    yield from _check_topics(job, log)
    _check_beginnings(job, starts)
    rules_end = 0
    if job.control:
        rules_end = targets.pop(job.control)
        while not job.rules_known(rules_end):
            yield RestoreStep(waits_for=f"the rules are not read up to {rules_end} yet")
    _check_position(job, starts, targets)
    changed = _changed(job)
    positions = {partition: max(_position(job, partition.topic), starts[partition]) for partition in targets}
    ledgers_part = targets[ledger] - positions[ledger]
    changelogs_part = targets[changelog] - positions[changelog]
    yield RestoreStep(ahead=changelogs_part + ledgers_part)
    while not job.may_read():
        yield RestoreStep(ahead=changelogs_part + ledgers_part, waits_for=WAITS_FOR_ROOM)
    with job.store.filling(changelogs_part) as write:
        copy = ChangelogCopy(job, changed, range(positions[changelog], targets[changelog]), ledgers_part, write)
        yield from _read(log, changelog, positions[changelog], targets[changelog], copy.take)
    chain = LedgerChain(job, targets[ledger])
    yield from _read(log, ledger, positions[ledger], targets[ledger], chain.take)
    _check_duration(job)
    if job.control and chain.last:  # the one before knew these rules: what decides next knows no fewer
        if chain.last.control_position > rules_end:  # or it was published and decided by amid the questions
            raise LogBehind(
                job.task_id, ends_before_the_rules(job.control.topic, rules_end, chain.last.control_position)
            )
        while not job.rules_read(chain.last.control_position):
            yield RestoreStep(waits_for=f"the rules are not read up to {chain.last.control_position} yet")
    group = {partition.topic: position for partition, position in committed.items()}
    if _other_position(chain, group) and committed != (yield from _stable_positions(log, inputs)):
        raise LogUnreachable("another gate decides here: the group's positions moved while the ledger was read")
    before = (yield from _before_a_copy(log, inputs, copy)) if chain.last is None else None
    return _checked(job, chain, group, {at.topic: starts[at] for at in inputs}, copy, before)


def _stable_positions(log: RestoreLog, inputs: list[TopicPartition]) -> Steps[dict[TopicPartition, int | None]]:
    while True:
        found = yield from _answer(log.ask_committed(inputs), "the group's coordinator does not answer")
        if found is not None:
            return found
        yield RestoreStep(waits_for=f"the group's positions: {_NOT_ENDED}", pause_s=_ASK_AGAIN_S)


def _answer(asked: Future[Answer], waits_for: str) -> Steps[Answer]:
    while not asked.done():
        yield RestoreStep(waits_for=waits_for)
    return asked.result()


def _answers(asked: Mapping[TopicPartition, Future[Answer]]) -> Steps[dict[TopicPartition, Answer]]:
    while late := sorted(partition for partition, answer in asked.items() if not answer.done()):
        yield RestoreStep(waits_for=f"the leader of {_named(late)} does not answer")
    lost = sorted(partition for partition, answer in asked.items() if isinstance(answer.exception(), LogUnreachable))
    if lost:
        raise LogUnreachable(f"{_named(lost)}: {asked[lost[0]].exception()}")
    return {partition: answer.result() for partition, answer in asked.items()}


def _check_topics(job: Restoration, log: RestoreLog) -> Steps[None]:
    """A topic that was made anew while this gate runs looks like one that lost its end: what is left would count.

    Asked once the ends are known: in a topic that is made anew after this, the end is never met.
    """
    asked = log.ask_topics(job.topic_ids)
    while not all(answer.done() for answer in asked.values()):
        yield RestoreStep(waits_for="no broker tells the ids of the topics")
    for topic, answer in asked.items():
        if isinstance(answer.exception(), UnknownTopic):  # or not known to that broker yet
            raise LogBehind(job.task_id, was_deleted(topic))
        found, known = answer.result().topic_id, job.topic_ids[topic]
        if found != known:
            raise TaskStopped(job.task_id, was_made_anew(topic, found, known, "this gate"))


def _check_beginnings(job: Restoration, starts: Mapping[TopicPartition, int]) -> None:
    """The cleaner moves no first offset: where it was moved, states or memory are gone, and nobody would miss them."""
    for topic in (job.topics.changelog, job.topics.ledger):
        partition = job.partition(topic)
        if starts[partition] > 0:
            raise TaskStopped(job.task_id, begins_later(partition, starts[partition]))


def _named(partitions: list[TopicPartition]) -> str:
    return ", ".join(f"{topic}-{number}" for topic, number in partitions)


def _nothing_more(partition: TopicPartition, position: int, target: int) -> str:
    return f"{_named([partition])} gives no more at {position}, its end is {target}: {_NOT_ENDED}"


def _read(log: RestoreLog, partition: TopicPartition, position: int, target: int, take: _TakePart) -> Steps[None]:
    """Read a partition until its end was met at the target or behind it. One record's place proves nothing: markers."""
    if position >= target:
        return
    log.start(partition, position)
    try:
        while True:
            records, end = log.take(partition)
            if records:
                position = records[-1].offset + 1
            if end is not None:
                position = max(position, end)
            if records or end is not None:
                yield take(records, position)
            else:
                yield RestoreStep(waits_for=_nothing_more(partition, position, target))
            if end is not None and position >= target:
                return
    finally:
        log.stop(partition)


def _stamp(job: Restoration, topics: Iterable[str]) -> bytes:
    ids = {topic: job.topic_ids[topic] for topic in sorted(topics)}
    stamp = {"format": 2, "task": str(job.task_id), "topic_ids": ids, "partitions": job.partitions}
    return msgspec.json.encode(stamp)


def _check_stamp(job: Restoration) -> None:
    found, expected = job.store.get(layout.STAMP), _stamp(job, job.topic_ids)
    if found is None:
        job.store.write({layout.STAMP: expected, layout.MADE_AT: layout.dump_log_time(job.now_ms)})
    elif found == _stamp(job, job.topics):  # of a release that knew no id of the control topic
        job.store.write({layout.STAMP: expected})
    elif found != expected:
        raise TaskCorrupted(job.task_id, "the folder belongs to other topics, another cluster or another format")


def _position(job: Restoration, topic: str) -> int:
    data = job.store.get(layout.position_key(topic))
    return layout.log_time_of(data) if data else 0


def _check_position(
    job: Restoration, starts: Mapping[TopicPartition, int], targets: Mapping[TopicPartition, int]
) -> None:
    """A store may be behind the log, never ahead of it, and not so far behind that tombstones are gone.

    One without a commit is of a restore that was given up: nothing in it is older than the store itself.
    """
    last, made = job.store.get(layout.COMMIT), job.store.get(layout.MADE_AT)
    as_of_ms = layout.commit_from_bytes(last).decided_at if last else layout.log_time_of(made) if made else 0
    for partition, target in targets.items():
        position = _position(job, partition.topic)
        if position > target:
            raise TaskCorrupted(job.task_id, f"the store is at {position} of {partition.topic}, its end is {target}")
        if 0 < position < starts[partition]:
            raise TaskCorrupted(job.task_id, f"the store is at {position} of {partition.topic}, which begins later")
        # One record ahead is the marker of our own last transaction.
        if position and target > position + 1:
            age_ms = job.now_ms - as_of_ms
            if age_ms > TOMBSTONES_KEPT_MS:
                raise TaskCorrupted(job.task_id, f"the store missed {age_ms // 3_600_000} h: tombstones may be gone")


def _check_duration(job: Restoration) -> None:
    """A machine may stand still amid a restore: what it had read may be deleted since, and the tombstone gone."""
    took_ms = job.clock_ms() - job.now_ms
    if took_ms > TOMBSTONES_KEPT_MS:
        raise TaskCorrupted(job.task_id, f"its restore took {took_ms // 3_600_000} h: tombstones may be gone")


def _changed(job: Restoration) -> int:
    """Return the newest transaction whose changes are in the store. Its commit says nothing: that is of the ledger."""
    found = job.store.get(layout.CHANGED)
    return layout.log_time_of(found) if found else 0


def _check_changed(job: Restoration, copy: ChangelogCopy, chain: LedgerChain) -> None:
    """Compare where changelog and ledger end.

    A leader that was cut off from the others does not know that it was deposed, and tells an end that is long passed.
    The last record stays, and nothing is as new; but where only aborted ones follow, it may be a tombstone that had its
    time: then something was behind the last record that is left.
    """
    changed, known = copy.changed, chain.last.sequence if chain.last else 0
    had_its_time = job.now_ms - chain.changed_at > _TOMBSTONES_STAY_MS
    if changed == UNKNOWN and chain.last:
        return
    if changed < chain.changed and not (had_its_time and copy.gap):
        if had_its_time and not copy.is_whole:
            raise TaskCorrupted(job.task_id, "only a copy from the start tells whether changes are lost")
        raise LogBehind(
            job.task_id, f"{job.topics.changelog} ends with transaction {changed}, the ledger knows of changes "
            f"of {chain.changed}: are they lost?",
        )  # fmt: skip
    if changed > known:
        of = "a transaction that can't be read here" if changed == UNKNOWN else f"transaction {changed}"
        raise LogBehind(
            job.task_id, f"{job.topics.ledger} ends with transaction {known}, the changelog with {of}: is its commit "
            f"lost?{'' if known else _NO_COPY}",
        )  # fmt: skip


_NO_COPY: Final = " A copy of a changelog is begun behind only while its rules are known and no input has come."
_TOMBSTONES_STAY_MS: Final = 24 * 3_600_000
_TakePart = Callable[[list[ConsumerRecord], int], RestoreStep]


def _before_a_copy(log: RestoreLog, inputs: list[TopicPartition], copy: ChangelogCopy) -> Steps[Commit | None]:
    """Return what a ledger goes on from that begins behind a copy of a changelog; None where it is none.

    A copy is a changelog beside which nothing ever was: no position, no input. Else the ledger is lost, or a leader
    that was deposed tells an end that is long passed. Transactions are counted on: their numbers order rows.
    """
    if copy.changed in (0, UNKNOWN):
        return None
    ends = yield from _answers(log.ask_ends(inputs))
    positions = yield from _stable_positions(log, inputs)
    if any(ends.values()) or any(position is not None for position in positions.values()):
        return None
    return Commit(0, copy.changed, (), 0, 0, 0, 0, b"", LADDER, 0, 0, b"", b"")


def _other_position(chain: LedgerChain, committed: Mapping[str, int | None]) -> str:
    """Return a topic of which group and ledger know other positions, "" without any.

    The ledger is read after the positions. It may be ahead of them where this gate has lost the partition and does not
    know it yet, as after a freeze: the new owner decides meanwhile.
    """
    spans = chain.last.spans if chain.last is not None else ()
    return next((span.topic for span in spans if committed.get(span.topic) not in (None, span.end)), "")


def _checked(
    job: Restoration,
    chain: LedgerChain,
    committed: Mapping[str, int | None],
    starts: Mapping[str, int],
    copy: ChangelogCopy,
    before: Commit | None,
) -> Restored:
    last, records = chain.last, copy.records + chain.records
    if last is None:
        strays = {topic: position for topic, position in committed.items() if position is not None}
        if strays:
            raise LogBehind(
                job.task_id,
                f"the group has positions {strays} but the ledger is empty: was it deleted? Nothing was read.",
            )
        since_ms = job.now_ms if before or any(starts.values()) else 0
        genesis = Genesis(dict(job.topic_ids), job.partitions, since_ms, job.now_ms)
        if before is None:
            _check_changed(job, copy, chain)
            return Restored(None, dict(starts), genesis, records)
        warning = f"its changelog is a copy, up to transaction {before.sequence}: a ledger is begun behind it"
        return Restored(before, dict(starts), genesis, records, warning)
    _check_changed(job, copy, chain)
    if not chain.seen_genesis:
        raise TaskStopped(job.task_id, f"{job.topics.ledger} holds commits but no genesis: it is not whole")
    positions = {span.topic: span.end for span in last.spans}
    warning = ""
    for topic, position in positions.items():
        group = committed.get(topic)
        if group is None:
            warning = f"the group has no position for {topic} any more; the ledger's {position} counts"
        elif group != position:
            raise LogBehind(
                job.task_id,
                f"the group's position of {topic} is {group}, the ledger's {position}: someone else moved it",
            )
        if starts[topic] > position:
            raise TaskStopped(
                job.task_id, f"{topic}: offsets {position} to {starts[topic] - 1} were removed before they were decided"
            )
    chain.keep()
    return Restored(last, positions, None, records, warning)
