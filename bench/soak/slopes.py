"""What a process takes from its machine, and how much more of it an hour later."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from statistics import linear_regression
from typing import Final, NamedTuple

__all__ = ["LONG_ENOUGH_S", "MOST_PER_H", "WARM_UP_S", "Sample", "Slopes", "sample_of", "slopes_of"]

WARM_UP_S: Final = 300.0
"""Until every path was taken once: caches fill, threads and connections are made."""
LONG_ENOUGH_S: Final = 1_200.0
"""Behind the warm-up. A takeover or a lost broker moves each figure for a minute: in twenty, that makes no slope."""


class Slopes(NamedTuple):
    """Growth an hour, by least squares."""

    rss_mib: float
    files: float
    threads: float


MOST_PER_H: Final = Slopes(rss_mib=96.0, files=8.0, threads=4.0)
"""What is no leak. Memory: under this load the write buffers of a gate's two stores fill by 67 MiB an hour (measured
in a calm: 0.7 KiB an input, and what RocksDB adds), until each is written out at 16 MiB; a life of half an hour sees
little else. Each lost transaction has them written out sooner, and RocksDB's cache fills instead, up to 32 MiB: with an
hour's inputs and 78 of those a gate grew by 25 MiB in all. 0.4 KiB more that each input leaves behind pass the limit,
and so does a megabyte that each lost transaction leaves. A client of Kafka that is never freed keeps five threads and
as many connections to three brokers: one an hour shows."""


class Sample(NamedTuple):
    """A process at a moment, in seconds of a clock that never goes back."""

    at_s: float
    rss_mib: float
    files: int
    threads: int


def sample_of(pid: int, at_s: float) -> Sample | None:
    """Look at a process; None where there is no /proc, or no such process."""
    folder = Path(f"/proc/{pid}")
    with suppress(OSError, IndexError):
        pages = int((folder / "statm").read_text().split()[1])
        threads = int((folder / "stat").read_text().rpartition(")")[2].split()[17])
        files = sum(1 for _ in (folder / "fd").iterdir())
        return Sample(at_s, pages * os.sysconf("SC_PAGE_SIZE") / 2**20, files, threads)
    return None


def slopes_of(samples: Sequence[Sample]) -> Slopes | None:
    """Return what grew, of a process seen since its start; None where it did not live long enough to say."""
    if not samples:
        return None
    warm = [sample for sample in samples if sample.at_s - samples[0].at_s >= WARM_UP_S]
    if not warm or warm[-1].at_s - warm[0].at_s < LONG_ENOUGH_S:
        return None
    at_s, *series = zip(*warm, strict=True)
    rss_mib, files, threads = (linear_regression(at_s, each).slope * 3600 for each in series)
    return Slopes(rss_mib, files, threads)
