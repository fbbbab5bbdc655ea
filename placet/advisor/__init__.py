"""The advisory pipeline: functions that think about signals, many at once, on faust.

advisor      what an author writes        advice      what a function gets and gives; the limits
pipeline     signals in, positions out    thinking    one trigger, to the gate's last word
source       faust, at the edge           triggers    from records to triggers
waiting, breaker, progress, steps         pure: who waits, who may think, what is over, what comes next
meter        what is counted           logs        what faust and its client say, sparsely
taken        how far the gate has come  credentials  faust told what the settings say

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
