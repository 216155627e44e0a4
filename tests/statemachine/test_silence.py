"""A database server that falls silent: the kernel is asked to notice, since nobody else would for two hours."""

import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url

from statemachine.store import open_store
from statemachine.store.database import SILENCE
from tests.campaigns.chaos.proxy import Address, Proxy


@pytest.fixture
def over_tcp(postgres_url: str) -> Iterator[str]:
    """The server's URL over TCP, whatever way it listens by itself."""
    url = make_url(postgres_url)
    folder, port = url.query.get("host"), url.port or 5432
    upstream: Address = Path(str(folder)) / f".s.PGSQL.{port}" if folder else (str(url.host), port)
    with Proxy(upstream) as proxy:
        direct = url.set(host="127.0.0.1", port=proxy.port, password=url.password or None, query={})
        yield direct.render_as_string(hide_password=False)


def options_of(url: str) -> list[int]:
    """What the kernel does about silence on a connection of a store at `url`."""
    with closing(open_store(url)) as store, store.read() as connection:
        driver: Any = connection.connection.driver_connection
        with socket.socket(fileno=socket.dup(driver.fileno())) as twin:
            asked = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT, socket.TCP_USER_TIMEOUT)
            assert twin.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            return [twin.getsockopt(socket.IPPROTO_TCP, option) for option in asked]


def test_a_server_that_falls_silent_is_given_up_within_half_a_minute(over_tcp: str) -> None:
    idle, interval, count, unanswered = options_of(over_tcp)
    assert [idle, interval, count, unanswered] == list(SILENCE.values())
    assert idle + interval * count < 30
    assert unanswered < 30_000


def test_the_url_has_the_last_word(over_tcp: str) -> None:
    assert options_of(f"{over_tcp}?keepalives_idle=77")[0] == 77
