"""The fixture `broker`: one real Kafka for the whole test session, gone with pytest, whatever ends that.

Another test module gets it with `from tests.broker_fixture import broker` or, for all, with a line in conftest.py:
`pytest_plugins = ["tests.broker_fixture"]`.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from placet.devbroker.broker import Broker


@pytest.fixture(scope="session")
def broker() -> Iterator[Broker]:
    """A running broker in a temporary folder; a test that stops it starts it again before it ends."""
    with Broker() as running:
        yield running
