"""The client for applications: reads committed state, proposes changes of it, reports facts, follows the changelog.

aio, sync      the two clients: the same calls, awaited or blocking
core           what both clients share    compose    makes messages and checks them
exchange       the thread that talks to Kafka
mirror         the states that were read  answers    gives decisions to the callers that wait
connect        topics and definitions     changes    the changelog, for programs that store it
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
