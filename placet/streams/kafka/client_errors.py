"""What calls into confluent-kafka raise: Kafka's own error may lie behind a SystemError.

A fatal error of librdkafka, such as a fenced producer's, is raised by whatever call serves its events. Where the same
call goes on to a delivery report, the report's callback runs with that exception pending, and Python turns it into
"SystemError: … returned a result with an exception set", with Kafka's error as its cause. And it may lose the error:
"SystemError: … returned NULL without setting an exception" (seen in `flush`, after a freeze of the process).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from confluent_kafka import KafkaError, KafkaException

from placet.schemas.errors import PlacetError

__all__ = ["CLIENT_ERRORS", "kafka_errors_as", "kafka_errors_ignored", "kafka_reason"]

CLIENT_ERRORS: Final = (KafkaException, SystemError)
"""What a call into the client may raise on Kafka's account. A SystemError may still be a bug: ask `kafka_reason`."""


_LOST: Final = "without setting an exception"


def kafka_reason(error: BaseException) -> KafkaError:
    """Return Kafka's error behind an exception.

    Raises:
        BaseException: the very exception, where no error of Kafka's is behind it: then it is a bug.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, KafkaException):
            reason: KafkaError = cause.args[0]
            return reason
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, SystemError) and _LOST in str(error):
        return KafkaError(KafkaError._FAIL, f"confluent-kafka lost its error: {error}")
    raise error


@contextmanager
def kafka_errors_as(reaction: type[PlacetError], what: str) -> Iterator[None]:
    """Raise the reaction that an error calls for, whatever error of Kafka's it is; a bug is raised as it is.

    Args:
        reaction: `LogUnreachable`, `TaskMigrated` or another that takes a sentence.
        what: was being done.
    """
    try:
        yield
    except CLIENT_ERRORS as error:
        raise reaction(f"{what}: {kafka_reason(error).str()}") from error
    except RuntimeError as error:  # the binding's own: the client was closed
        raise reaction(f"{what}: {error}") from error


@contextmanager
def kafka_errors_ignored() -> Iterator[None]:
    """Pass over Kafka's errors, for calls on a client that is thrown away; a bug is raised."""
    try:
        yield
    except CLIENT_ERRORS as error:
        kafka_reason(error)
