"""The chaos campaign's proxy does to connections what it says, or the campaign would prove nothing."""

import re
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest

from tests.campaigns.chaos.proxy import FAIR, Proxy, Weather

SECONDS = 10.0


class Echo:
    """A server that says everything twice, and remembers what it heard."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.address: tuple[str, int] = self._listening.getsockname()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                caller, _ = self._listening.accept()
                threading.Thread(target=self._serve, args=(caller,), daemon=True).start()

    def _serve(self, caller: socket.socket) -> None:
        with suppress(OSError), caller:
            while said := caller.recv(4096):
                self.heard.append(said)
                caller.sendall(said + said)

    def close(self) -> None:
        """Listen no more."""
        self._listening.close()


@pytest.fixture
def echo() -> Iterator[Echo]:
    server = Echo()
    yield server
    server.close()


@pytest.fixture
def proxy(echo: Echo) -> Iterator[Proxy]:
    with Proxy(echo.address) as listening:
        yield listening


def call(proxy: Proxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=SECONDS)


def ask(caller: socket.socket, what: bytes) -> bytes:
    caller.sendall(what)
    return caller.recv(4096)


def ended(caller: socket.socket) -> bool:
    try:
        return caller.recv(4096) == b""
    except ConnectionResetError:
        return True


def test_in_fair_weather_everything_goes_through(proxy: Proxy) -> None:
    with call(proxy) as caller:
        assert ask(caller, b"one") == b"oneone"
        assert ask(caller, b"two") == b"twotwo"


def test_a_cut_ends_every_connection_and_new_ones_are_welcome(proxy: Proxy) -> None:
    with call(proxy) as before:
        assert ask(before, b"one") == b"oneone"
        proxy.cut()
        assert ended(before)
    with call(proxy) as after:
        assert ask(after, b"two") == b"twotwo"


def test_refused_connections_are_refused_until_the_weather_is_fair(proxy: Proxy) -> None:
    with call(proxy) as before:
        assert ask(before, b"one") == b"oneone"
        proxy.set(Weather(refuse=True))
        assert ended(before)
    with pytest.raises(ConnectionRefusedError):
        call(proxy)
    proxy.set(FAIR)
    with call(proxy) as after:
        assert ask(after, b"two") == b"twotwo"


def test_a_stall_delays_old_and_new_connections_and_loses_nothing(proxy: Proxy, echo: Echo) -> None:
    with call(proxy) as old:
        assert ask(old, b"one") == b"oneone"
        proxy.set(Weather(stall=True))
        with call(proxy) as new:
            old.sendall(b"two")
            new.sendall(b"three")
            old.settimeout(0.2)
            with pytest.raises(TimeoutError):
                old.recv(4096)
            assert echo.heard == [b"one"]
            proxy.set(FAIR)
            old.settimeout(SECONDS)
            assert old.recv(4096) == b"twotwo"
            assert new.recv(4096) == b"threethree"


def test_a_lost_answer_belongs_to_a_request_that_arrived(proxy: Proxy, echo: Echo) -> None:
    with call(proxy) as caller:
        assert ask(caller, b"BEGIN") == b"BEGINBEGIN"
        proxy.set(Weather(lose=re.compile(rb"COMMIT")))
        assert ask(caller, b"INSERT") == b"INSERTINSERT"
        caller.sendall(b"COMMIT")
        assert ended(caller)
    assert echo.heard[-1] == b"COMMIT"
    assert proxy.lost == 1


def test_a_lie_comes_instead_of_the_answer(proxy: Proxy, echo: Echo) -> None:
    proxy.set(Weather(lose=re.compile(rb"PUT"), instead=b"500"))
    with call(proxy) as caller:
        assert ask(caller, b"PUT") == b"500"
        assert ended(caller)
    assert echo.heard == [b"PUT"]


def test_another_server_is_asked_while_the_weather_says_so(proxy: Proxy, echo: Echo) -> None:
    other = Echo()
    proxy.set(Weather(to=other.address))
    with call(proxy) as caller:
        assert ask(caller, b"one") == b"oneone"
    proxy.set(FAIR)
    with call(proxy) as caller:
        assert ask(caller, b"two") == b"twotwo"
    assert (other.heard, echo.heard) == ([b"one"], [b"two"])
    other.close()


def test_a_server_that_is_down_looks_like_one() -> None:
    with socket.create_server(("127.0.0.1", 0)) as bound:
        gone: tuple[str, int] = bound.getsockname()
    with Proxy(gone) as proxy, call(proxy) as caller:
        assert ended(caller)
