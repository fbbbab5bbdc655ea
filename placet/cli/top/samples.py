"""Arithmetic on scrapes: text in, numbers by name and labels out; sums, increases, percentiles. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import inf
from typing import TypeAlias

from prometheus_client.parser import text_string_to_metric_families

__all__ = ["Labels", "Numbers", "by", "increase", "parse", "quantile", "rounded", "sum_of_known", "total"]

Labels: TypeAlias = frozenset[tuple[str, str]]
Numbers: TypeAlias = Mapping[str, Mapping[Labels, float]]
"""The samples of one scrape: by name, then by labels."""


def parse(text: str) -> Numbers:
    """Read Prometheus' text format.

    Raises:
        ValueError: it is something else.
    """
    found: dict[str, dict[Labels, float]] = {}
    try:
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                found.setdefault(sample.name, {})[frozenset(sample.labels.items())] = sample.value
    except (IndexError, KeyError, TypeError) as error:  # how the parser says it of some texts
        raise ValueError(f"{type(error).__name__}: {error}") from error
    return found


def by(numbers: Numbers, name: str, *labels: str) -> dict[tuple[str, ...], float]:
    """Sum a metric's series by the values of these labels; a label that a series does not have counts as ""."""
    sums: dict[tuple[str, ...], float] = {}
    for series, value in numbers.get(name, {}).items():
        has = dict(series)
        key = tuple(has.get(label, "") for label in labels)
        sums[key] = sums.get(key, 0.0) + value
    return sums


def total(numbers: Numbers, name: str) -> float | None:
    """Sum all series of a metric; None when there is none."""
    return by(numbers, name).get(())


def increase(before: Numbers, after: Numbers) -> Numbers:
    """How much each counter grew. One that went down belongs to a new process, and grew from 0."""
    return {
        name: {labels: _grown(before.get(name, {}).get(labels, 0.0), value) for labels, value in series.items()}
        for name, series in after.items()
    }


def _grown(before: float, after: float) -> float:
    return after - before if after >= before else after


def quantile(of: float, buckets: Mapping[float, float]) -> float | None:
    """Estimate a quantile as PromQL's `histogram_quantile` does: evenly spread within a bucket.

    Args:
        of: 0.5 for the median.
        buckets: cumulated counts by upper bound, the last of them infinity.

    Returns:
        In the buckets' unit; the highest finite bound for what lies beyond it; None without observations.
    """
    bounds = sorted(buckets)
    wanted = of * buckets[bounds[-1]] if bounds else 0.0
    lower, below = 0.0, 0.0
    for bound in bounds if wanted else ():
        count = buckets[bound]
        if count >= wanted:
            return lower if bound == inf else lower + (bound - lower) * (wanted - below) / (count - below)
        lower, below = bound, count
    return None


def sum_of_known(values: Iterable[float | None]) -> float | None:
    """Return the sum of what is known; None when nothing is."""
    there = [value for value in values if value is not None]
    return sum(there) if there else None


def rounded(value: float | None) -> int | None:
    """Round what is known."""
    return None if value is None else round(value)
