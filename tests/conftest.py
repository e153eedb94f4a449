"""What every test shares: the asyncio backend of the anyio plugin."""

import pytest

pytest_plugins = ["tests.fixtures_postgres"]


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"
