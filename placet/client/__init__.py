"""What an application uses: read committed state, propose changes of it, report facts, follow what was committed.

aio, sync      the two clients: the same calls, awaited or blocking
core           what they share            compose    from words to a message, checked
exchange       the thread that talks to Kafka
mirror         states, as they are read   answers    decisions, to those who wait for them
connect        topics and rules           changes    the changelog for those who keep it
"""

from __future__ import annotations

from placet.client.aio import AsyncChangeBatch, AsyncClient, AsyncProposal
from placet.client.changes import ChangeBatch
from placet.client.errors import DecisionTimeout, NoOccasion, NotConnected, NotDelivered, ReadTimeout
from placet.client.snapshot import Snapshot
from placet.client.sync import Client, Proposal
from placet.schemas.decision import Decision, Outcome, Reason, Retry

__all__ = [
    "AsyncChangeBatch",
    "AsyncClient",
    "AsyncProposal",
    "ChangeBatch",
    "Client",
    "Decision",
    "DecisionTimeout",
    "NoOccasion",
    "NotConnected",
    "NotDelivered",
    "Outcome",
    "Proposal",
    "ReadTimeout",
    "Reason",
    "Retry",
    "Snapshot",
]
