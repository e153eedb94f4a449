"""Event loops that tests run on: asyncio's own, and the one of production."""

import pytest

BOTH = [
    pytest.param(("asyncio", {"use_uvloop": False}), id="asyncio"),
    pytest.param(("asyncio", {"use_uvloop": True}), id="uvloop"),
]
