"""Markers that end a transaction: its coordinator has them written, in each partition and group, until all have it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final

from placet.simulation.brokers.log import COMMIT
from placet.simulation.brokers.transactions import OpenTransaction

if TYPE_CHECKING:
    from placet.simulation.brokers.cluster import At, SimulatedCluster

__all__ = ["write_markers"]

_RETRY_NS: Final = 100_000_000
_SLOW: Final = (2_000, 400, 50, 10, 1, 1, 1, 1)
"""How many times longer than a request a marker may take: partitions learn of a transaction's end one by one."""
_TWICE: Final = 16
"""Once in so many times, amid trouble, the answer to a marker is lost."""


def write_markers(cluster: SimulatedCluster, ended: OpenTransaction, done: Callable[[], None]) -> None:
    """Write a marker to each partition and group, each when it comes, and again until all replicas have it."""
    left = dict.fromkeys(ended.places)
    if not left:
        done()

    def written(place: At) -> None:
        left.pop(place, None)
        if not left:
            done()

    for place in list(left):
        mark = partial(_mark, cluster, place, ended, ended.epoch, written)
        if cluster.network.near:
            mark()
        else:
            slow = _SLOW[cluster.choices.pick(len(_SLOW))] if cluster.network.trouble else 1
            cluster.scheduler.later(cluster.network.latency_ns() * slow, mark)


def _mark(
    cluster: SimulatedCluster,
    place: At,
    ended: OpenTransaction,
    epoch: int,
    written: Callable[[At], None],
    *,
    once_more: bool = False,
) -> None:
    """Write one, as the transaction's coordinator asks for it. It asks again where an answer is lost."""
    found = cluster.partition(place)
    if found is None and place[1] >= 0:
        written(place)  # the topic is gone
        return
    again = partial(_mark, cluster, place, ended, epoch, written)
    there = cluster.group_coordinator if place[1] < 0 else cluster.leader_of(place)
    if not cluster.takes_markers(there, found):
        cluster.scheduler.later(_RETRY_NS, again)
        return
    if found is None:
        cluster.group(place[0]).end_transaction(ended.producer_id, committed=ended.result == COMMIT)
        written(place)
        return
    log = found.log
    offset, losses = log.mark(ended.producer_id, epoch, ended.result, cluster.network.clock_ms(there)), log.losses
    cluster.replicate_soon(found)

    def look() -> None:
        if log.high_watermark > offset:
            if cluster.network.trouble and not once_more and cluster.choices.pick(_TWICE) == 0:
                cluster.scheduler.later(_RETRY_NS, partial(again, once_more=True))
            else:
                written(place)
        elif log.losses != losses:
            again()
        else:
            log.changed.append(look)

    look()
