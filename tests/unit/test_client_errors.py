"""Fenced amid a delivery report: Python wraps what librdkafka raises, and no traceback of it may reach anybody."""

from __future__ import annotations

from collections.abc import Callable
from threading import Thread
from typing import Any, cast

import pytest
from confluent_kafka import KafkaError, KafkaException

from placet.streams.errors import FatalError, ProducerFenced, TransactionAborted
from placet.streams.host import LocalHost
from placet.streams.kafka import discard as discarding
from placet.streams.kafka.client_errors import kafka_errors_ignored, kafka_reason
from placet.streams.kafka.plain_producer import DurableProducer
from placet.streams.kafka.transactional_producer import TransactionalProducer
from tests.staged import StagedHost


def fenced() -> KafkaException:
    return KafkaException(KafkaError(KafkaError._FENCED, "fenced by a newer producer", fatal=True))


def wrapped(cause: Exception) -> SystemError:
    error = SystemError("<bound method> returned a result with an exception set")
    error.__cause__ = cause
    return error


class Client:
    """A client whose calls raise what they are told to, each once."""

    def __init__(self, *raised: Exception | None) -> None:
        self.calls: list[str] = []
        self._raised = list(raised)

    def __getattr__(self, name: str) -> Callable[..., int]:
        def call(*_: object) -> int:
            self.calls.append(name)
            error = self._raised.pop(0) if self._raised else None
            if error is not None:
                raise error
            return 0

        return call


def test_an_error_that_the_client_lost_ends_the_transaction_and_not_the_gate() -> None:
    lost = SystemError("<method 'flush' of 'cimpl.Producer' objects> returned NULL without setting an exception")
    assert "lost its error" in kafka_reason(lost).str()
    producer = TransactionalProducer(LocalHost(), {"transactional.id": "x"}, cast("Any", None), 1)
    assert isinstance(producer._translated(lost, "transaction"), TransactionAborted)


def test_kafka_is_found_behind_a_system_error_and_a_bug_is_not_taken_for_it() -> None:
    assert kafka_reason(fenced()).code() == KafkaError._FENCED
    assert kafka_reason(wrapped(wrapped(fenced()))).code() == KafkaError._FENCED
    with pytest.raises(SystemError, match="a bug in C"):
        kafka_reason(SystemError("a bug in C"))
    with pytest.raises(SystemError, match="a bug in C"), kafka_errors_ignored():
        raise SystemError("a bug in C")


@pytest.mark.parametrize("raised", [fenced(), wrapped(fenced())], ids=["plain", "amid a delivery report"])
def test_a_fenced_producer_is_one_wherever_it_hears_of_it(raised: Exception) -> None:
    for use in (lambda producer: producer.serve(), _commit):
        producer = TransactionalProducer(LocalHost(), {"transactional.id": "gate"}, cast("Any", None), 1)
        producer._producer = cast("Any", Client(None, raised) if use is _commit else Client(raised))
        with pytest.raises(ProducerFenced, match="fenced by a newer producer"):
            use(producer)


def _commit(producer: TransactionalProducer) -> None:
    with producer.transaction() as transaction:
        transaction._producer.flush(1)


def test_another_error_amid_a_delivery_report_aborts() -> None:
    producer = TransactionalProducer(LocalHost(), {"transactional.id": "gate"}, cast("Any", None), 1)
    producer._producer = cast("Any", Client(wrapped(KafkaException(KafkaError(KafkaError._TIMED_OUT)))))
    with pytest.raises(TransactionAborted):
        producer.serve()


def test_a_client_whose_producer_is_of_no_use_any_more_says_so_and_closes_in_peace() -> None:
    producer = DurableProducer(StagedHost(client=Client(wrapped(fenced()), fenced())), {})
    with pytest.raises(FatalError, match="fenced by a newer producer"):
        producer.serve()
    producer.close()


def test_a_fenced_producer_is_discarded_to_its_end_without_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    died: list[object] = []
    monkeypatch.setattr("threading.excepthook", died.append)
    client = Client(fenced(), wrapped(fenced()), wrapped(fenced()))
    thread = Thread(target=discarding._discard, args=(client, None, 1.0))
    thread.start()
    thread.join(10)
    assert client.calls == ["purge", "abort_transaction", "poll", "poll"]
    assert died == []
