"""What every test shares: the asyncio backend of the anyio plugin."""

import pytest

pytest_plugins = ["tests.fixtures_postgres", "tests.third_party"]


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"
