"""The advisory pipeline: calls functions for signals, many at once, on faust.

advisor      the class for authors        advice       input and result of a function; the limits
pipeline     signals in, positions out    thinking     one trigger, up to the gate's last decision
source       the only module with faust   triggers     makes triggers of records
waiting, breaker, progress, steps         pure: the queue, the circuit breaker, finished offsets, the next step
meter        metrics and counts           logs         log lines of faust and its client, limited
taken        the gate's positions         credentials  makes faust's credentials of the settings

Needs the extra: `pip install 'placet[advisory]'`.
"""

from __future__ import annotations

from importlib.util import find_spec

if find_spec("faust") is None:
    raise ImportError("placet.advisor needs faust: pip install 'placet[advisory]'")

from placet.advisor.advice import Advice, Limits, Signal, Think
from placet.advisor.advisor import Advisor
from placet.advisor.waiting import Drop
from placet.client.snapshot import Snapshot

__all__ = ["Advice", "Advisor", "Drop", "Limits", "Signal", "Snapshot", "Think"]
