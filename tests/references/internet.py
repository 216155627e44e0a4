"""A small Internet: real HTTP servers on loopback, names that resolve as the test says, and a note of each dialling."""

import socket
import ssl
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final, Self

from workers.references.addresses import IPAddress

Reply = bytes | Callable[[socket.socket, threading.Event], None]
"""The answer's bytes, or what talks over the connection until the event says that the server closes."""
PUBLIC: Final = "93.184.216.34"


def ok(body: bytes, *headers: str, kind: str | None = "image/png") -> bytes:
    """A whole answer, its length named."""
    lines = ["HTTP/1.1 200 OK", f"Content-Length: {len(body)}", *headers]
    if kind is not None:
        lines.append(f"Content-Type: {kind}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def redirect(to: str, status: int = 302) -> bytes:
    """An answer that sends its reader elsewhere."""
    return f"HTTP/1.1 {status} Elsewhere\r\nContent-Length: 0\r\nLocation: {to}\r\n\r\n".encode()


class Site:
    """A server on loopback, or on every address of this host. `requests` holds the head of each request."""

    def __init__(
        self, replies: Mapping[str, Reply] | Reply, *, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None
    ) -> None:
        self._replies = replies
        self._tls = tls
        self._closing = threading.Event()
        if host == "::":
            self._listening = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
        else:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            self._listening = socket.create_server((host, 0), family=family)
        self.port: int = self._listening.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.allowed = frozenset({f"127.0.0.1:{self.port}"})
        self.requests: list[str] = []
        self._accepted = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def visitors(self) -> int:
        """How many connections came. One of our own is answered first: by then all earlier ones were taken."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as mine:
            mine.sendall(b"GET /visitors HTTP/1.1\r\n\r\n")
            mine.settimeout(20)
            while mine.recv(65536):
                pass
        return self._accepted - 1

    def _accept(self) -> None:
        while True:
            try:
                caller, _ = self._listening.accept()
            except OSError:
                return
            self._accepted += 1
            threading.Thread(target=self._serve, args=(caller,), daemon=True).start()

    def _serve(self, caller: socket.socket) -> None:
        with suppress(OSError), caller:  # a caller who has had enough is no trouble of the server's
            talking = self._tls.wrap_socket(caller, server_side=True) if self._tls else caller
            with talking:
                head = b""
                while b"\r\n\r\n" not in head:
                    got = talking.recv(65536)
                    if not got:
                        return
                    head += got
                self.requests.append(head.decode("latin-1"))
                reply = self._reply(head.split(b" ")[1].decode())
                if callable(reply):
                    reply(talking, self._closing)
                else:
                    talking.sendall(reply)
                talking.shutdown(socket.SHUT_RDWR)

    def _reply(self, target: str) -> Reply:
        if target == "/visitors":
            return ok(b"")
        if isinstance(self._replies, Mapping):
            return self._replies.get(target, b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        return self._replies


class Internet:
    """`resolve` answers by `names`: a list is one answer each time, the last one stays. `dial` leads to `site`."""

    def __init__(self, names: Mapping[str, list[list[str]]], site: Site | None = None) -> None:
        self._names = names
        self._site = site
        self.asked: list[str] = []
        self.dialled: list[str] = []

    def resolve(self, host: str, port: int, **_: Any) -> list[Any]:
        """What `socket.getaddrinfo` would say."""
        self.asked.append(host)
        if host not in self._names:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        answers = self._names[host]
        found = answers[min(self.asked.count(host), len(answers)) - 1]
        return [(socket.AF_INET6 if ":" in ip else socket.AF_INET, 1, 6, "", (ip, port)) for ip in found]

    def dial(self, address: IPAddress, port: int, seconds: float) -> socket.socket:
        """A connection to the site, wherever the address is."""
        self.dialled.append(f"{address}:{port}")
        if self._site is None:
            raise ConnectionRefusedError
        return socket.create_connection(("127.0.0.1", self._site.port), timeout=seconds)
