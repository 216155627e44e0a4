"""HTTP whose time limit holds as a whole: connecting, sending, and every byte of the answer together.

The time-outs of requests begin anew with each byte, so a peer that drips its answer could hold a lane for ever.
Here a timer cuts the connection. Resolving a name cannot be cut, but after the end nothing is connected or sent.
"""

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from http.cookiejar import DefaultCookiePolicy
from threading import Lock, Timer
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.response import HTTPResponse


class Limit:
    """The end of one request. `over` says that it has come."""

    def __init__(self, seconds: float) -> None:
        self._ends = time.monotonic() + seconds
        self._lock = Lock()
        self._watched: socket.socket | None = None
        self.over = False

    def left(self) -> float:
        """Seconds that are left. Raises TimeoutError when none are."""
        left = self._ends - time.monotonic()
        if left <= 0 or self.over:
            self.over = True
            raise TimeoutError("the request's time is over")
        return left

    def watch(self, connected: socket.socket) -> None:
        """Cut this connection when the end comes."""
        with self._lock:
            self._watched = connected
            if self.over:
                _shut(connected)

    def cut(self) -> None:
        """The end has come."""
        with self._lock:
            self.over = True
            if self._watched is not None:
                _shut(self._watched)


_current: ContextVar[Limit | None] = ContextVar("limit", default=None)


@contextmanager
def limited(seconds: float) -> Iterator[Limit]:
    """Hold the requests of a `timed_session` made inside to `seconds`, all of them together."""
    limit = Limit(seconds)
    timer = Timer(seconds, limit.cut)
    timer.daemon = True
    timer.start()
    token = _current.set(limit)
    try:
        yield limit
    finally:
        _current.reset(token)
        timer.cancel()


def timed_session() -> requests.Session:
    """A session that heeds `limited`, follows no redirect, keeps no cookie and takes nothing from the environment.

    Each request has a connection of its own: calls are seconds apart, and a POST never dies of an idle connection.
    """
    session = _Session()
    session.trust_env = False  # no proxies, no .netrc
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    session.headers["Connection"] = "close"
    session.mount("http://", _Adapter())
    session.mount("https://", _Adapter())
    return session


class _Session(requests.Session):
    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """None, always. `allow_redirects=False` alone would still read a redirect's whole body."""
        return None


def _shut(connected: socket.socket) -> None:
    try:
        # The plain socket's: an SSLSocket's own would pull the TLS object from under the thread that reads.
        socket.socket.shutdown(connected, socket.SHUT_RDWR)
    except OSError:
        return  # it was closed in the meantime: nothing is left to cut


def _dial(host: str, port: int) -> socket.socket:
    """Connect to the first address that answers; each has its share of the time that is left."""
    limit = _current.get() or Limit(60.0)
    addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    problem: OSError = OSError(f"{host} has no address")
    for tried, (family, kind, protocol, _, address) in enumerate(addresses):
        left = limit.left()
        connecting = socket.socket(family, kind, protocol)
        try:
            connecting.settimeout(left / (len(addresses) - tried))
            connecting.connect(address)
            connecting.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connecting.settimeout(limit.left())  # a TLS handshake or a stalled send ends by it, as a whole
        except OSError as error:
            connecting.close()
            problem = error
        else:
            return connecting
    raise problem


def _watch(connected: socket.socket | None) -> None:
    limit = _current.get()
    if limit is not None and connected is not None:
        limit.watch(connected)


class _Plain(HTTPConnection):
    def _new_conn(self) -> socket.socket:
        return _dial(self.host, self.port or 80)

    def getresponse(self) -> HTTPResponse:  # type: ignore[override]  # urllib3's own departs from http.client's
        _watch(self.sock)
        return super().getresponse()


class _Secure(HTTPSConnection):
    def _new_conn(self) -> socket.socket:
        return _dial(self.host, self.port or 443)

    def getresponse(self) -> HTTPResponse:  # type: ignore[override]  # urllib3's own departs from http.client's
        _watch(self.sock)
        return super().getresponse()


class _PlainPool(HTTPConnectionPool):
    ConnectionCls = _Plain


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = _Secure


class _Adapter(HTTPAdapter):
    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **pool: Any) -> None:
        super().init_poolmanager(connections, maxsize, block, **pool)
        self.poolmanager.pool_classes_by_scheme = {"http": _PlainPool, "https": _SecurePool}
