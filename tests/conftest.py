"""What every test shares: the asyncio backend of the anyio plugin, and hypothesis without a stopwatch."""

import pytest
from hypothesis import HealthCheck, settings

pytest_plugins = ["tests.fixtures_postgres", "tests.third_party"]

# How fast a machine makes and tries examples says nothing about the property.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"
