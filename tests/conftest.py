"""Fixtures and settings for all tests."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

pytest_plugins = ["tests.broker_fixture"]

# No test is timed: a busy machine must not fail one. The same examples each time, so that a failure can be run again.
settings.register_profile("placet", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("placet")
