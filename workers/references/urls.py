"""A stranger's URL, taken apart once, so that what is checked and what is sent cannot differ."""

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, urlsplit

from workers.references.addresses import literal, looks_numeric

LONGEST: Final = 8192
_PORTS: Final = {"http": 80, "https": 443}
_NAME: Final = re.compile(r"(?=.{1,253}\Z)[a-z0-9_]([a-z0-9_-]{0,62})(\.[a-z0-9_][a-z0-9_-]{0,62})*")
_UNSEEN: Final = re.compile(r"[\x00-\x1f\x7f\\]")
"""Readers differ on these: some drop a line feed, some take a backslash for a slash."""


@dataclass(frozen=True)
class Place:
    """Where a URL points. `host` is lower-case ASCII, an IPv6 address without brackets; `target` is path and query."""

    scheme: str
    host: str
    port: int
    target: str

    @property
    def host_port(self) -> str:
        """host:port, the port always named; an IPv6 address in brackets."""
        return f"{self._bracketed}:{self.port}"

    @property
    def host_header(self) -> str:
        """What goes into Host: the port only where it is not the scheme's own."""
        return self._bracketed if self.port == _PORTS[self.scheme] else self.host_port

    @property
    def origin(self) -> str:
        """scheme://host:port, always in full."""
        return f"{self.scheme}://{self.host_port}"

    @property
    def _bracketed(self) -> str:
        return f"[{self.host}]" if ":" in self.host else self.host


def parse(url: str) -> Place:
    """Take a URL apart. Raises ValueError with the end of a sentence that begins with "the reference's URL".

    No more than the host is ever repeated: the rest may hold a password or a signature.
    """
    url = url.strip(" ")
    if len(url) > LONGEST:
        raise ValueError(f"is longer than {LONGEST} characters")
    if _UNSEEN.search(url):
        raise ValueError("holds a control character or a backslash")
    try:
        parts = urlsplit(url)
        port = parts.port
        url.encode()
    except ValueError:  # a UnicodeError is one
        raise ValueError("cannot be read") from None
    if parts.scheme not in _PORTS:
        raise ValueError("must begin with http:// or https://")
    if "@" in parts.netloc:
        raise ValueError("must not hold a user or a password")
    if port == 0:
        raise ValueError("names port 0")
    target = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~-._")
    if parts.query:
        target += "?" + quote(parts.query, safe="/%:@!$&'()*+,;=~-._?[]")
    return Place(parts.scheme, _host(parts.hostname or ""), port or _PORTS[parts.scheme], target)


def _host(given: str) -> str:
    if ":" in given:
        address = literal(given)
        if address is None or "%" in given:
            raise ValueError("names a host that is none")
        return str(address)
    try:
        host = given.encode("idna").decode().lower().removesuffix(".")
    except UnicodeError:
        raise ValueError("names a host that is none") from None
    if not _NAME.fullmatch(host):
        raise ValueError("names a host that is none")
    if looks_numeric(host) and literal(host) is None:
        raise ValueError("writes its address in another form than four decimal numbers")
    return host
