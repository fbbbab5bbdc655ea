"""What an error of the admin client means: nobody answered, it is not there, or the broker refuses."""

from __future__ import annotations

from typing import Final

from confluent_kafka import KafkaError

from placet.schemas.errors import SettingsError
from placet.streams.errors import LogUnreachable

__all__ = ["ABSENT", "TOO_OLD", "UNREACHABLE", "BrokerUnreachable", "LastSeen", "UnknownTopic", "refusal"]

UNREACHABLE: Final = frozenset({
    KafkaError._TIMED_OUT, KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._RESOLVE,
    KafkaError._DESTROY_BROKER,  # the broker that was asked is no member of the cluster any more
    KafkaError._AUTHENTICATION, KafkaError._SSL, KafkaError._WAIT_COORD, KafkaError.REQUEST_TIMED_OUT,
    KafkaError.KAFKA_STORAGE_ERROR,  # of one broker's disk: another one leads soon
    KafkaError.COORDINATOR_NOT_AVAILABLE, KafkaError.NOT_CONTROLLER, KafkaError.BROKER_NOT_AVAILABLE,
    # A partition's leader is being elected, or was, and the next metadata tells (_NOENT: "no leaders found").
    KafkaError.LEADER_NOT_AVAILABLE, KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError._NOENT,
    KafkaError.FENCED_LEADER_EPOCH, KafkaError.UNKNOWN_LEADER_EPOCH, KafkaError.OFFSET_NOT_AVAILABLE,
})  # fmt: skip
ABSENT: Final = frozenset({KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError.UNKNOWN_TOPIC_ID})
TOO_OLD: Final = frozenset(
    {KafkaError.INVALID_REQUEST, KafkaError.UNSUPPORTED_VERSION, KafkaError._UNSUPPORTED_FEATURE}
)
_FORBIDDEN: Final = frozenset({
    KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED, KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
})  # fmt: skip


class BrokerUnreachable(LogUnreachable):
    """No broker answered in time. Reaction: a command ends; the operator starts it, or mends address or rights."""


class UnknownTopic(BrokerUnreachable):
    """The broker that was asked knows no such topic, or not yet. Reaction: ask again; in the end it is gone."""


class LastSeen:
    """Hears a client's errors, and keeps the last that says something.

    It does not know who asks the client: both would hold each other until Python looks for such rings, and a gate
    seldom does.

    Attributes:
        what: librdkafka's words, "" while there are none.
    """

    def __init__(self) -> None:
        self.what = ""

    def __call__(self, error: KafkaError) -> None:
        """Take note of an error."""
        if error.code() != KafkaError._ALL_BROKERS_DOWN:
            self.what = error.str()


def refusal(reason: KafkaError, what: str) -> SettingsError:
    """Say that the broker refused to do something, and what to do where that is known."""
    if reason.code() in _FORBIDDEN:
        return SettingsError(f"The broker does not let this client {what}: {reason.str()}. Grant it the right.")
    return SettingsError(f"The broker refused to {what}: {reason.str()}")
