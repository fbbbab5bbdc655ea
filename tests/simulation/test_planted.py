"""Each bug that is planted in the gate is found: a simulation that finds nothing proves nothing."""

from __future__ import annotations

import pytest

from tests.simulation.histories import run_history
from tests.simulation.planted import PLANTED, Planted

RARE = {
    "a closed connection is no reason", "a restore ends at the first records", "a store of any age is gone on with",
    "log time without the skew", "metadata that names nobody",
}  # fmt: skip
"""Found once in some hundred histories."""
SEEDS_MAX = 2_000


@pytest.mark.parametrize(
    "planted",
    [pytest.param(one, id=one.name, marks=pytest.mark.long if one.name in RARE else ()) for one in PLANTED],
)
def test_it_is_found(planted: Planted) -> None:
    with planted.plant():
        histories = (run_history(planted.kind, seed) for seed in range(1, SEEDS_MAX + 1))
        wrong = next((one.wrong for one in histories if one.wrong), [])
    assert wrong
    assert "planted.py" not in "".join(wrong), "the planted code broke by itself: that a gate died of it finds nothing"
