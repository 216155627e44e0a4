"""The receiver of callbacks over HTTP: one signed POST, and what came of it."""

import json
import math
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from http.client import HTTPException
from typing import Final
from urllib.parse import urlsplit

import requests
from urllib3.exceptions import HTTPError

from workers.signature import sign, signing_key
from workers.timed_http import limited, timed_session

ANSWER_BYTES: Final = 64 * 1024
HEAD_CHARACTERS: Final = 500
LONGEST_WAIT: Final = 24 * 3600.0
"""Seconds. A receiver that asks for a longer pause than a day does not decide when a job is told."""

_SIGNATURE: Final = re.compile(r"(?i)((?:\b|%3f|%26)(?:token|signature|x-amz-[a-z-]+))(=|%3d)[^\s\"'<>\\&]+")
"""What makes a URL a signed one, of the storages that callbacks name assets of."""


@dataclass(frozen=True, kw_only=True)
class HttpAnswer:
    """See `workers.ports.Answer`."""

    delivered: bool
    http_code: int | None
    ms: float
    head: str | None = None
    error: str | None = None
    retry_after: float | None = None


class HttpReceiver:
    """Posts callbacks to one URL. May be used by several threads; each has a session of its own.

    `bearer` goes into Authorization, `secret` signs (Standard Webhooks). Neither is ever shown, nor is what signs the
    URLs in a body: not in an answer's head that echoes them, and not in an error. Raises ValueError for a URL or a
    secret that cannot be used.
    """

    def __init__(
        self, url: str, bearer: str | None, secret: str | None, *, wall: Callable[[], float] = time.time
    ) -> None:
        _check(url, bearer)
        self._url = url
        self._bearer = bearer
        self._key = None if secret is None else signing_key(secret)
        self._hidden = [hidden for hidden in (bearer, secret) if hidden]
        self._wall = wall
        self._local = threading.local()

    def post(self, callback_id: str, body: bytes, *, seconds: float) -> HttpAnswer:
        """See `Receiver.post`. Over after `seconds`, however slowly the receiver answers."""
        began = time.monotonic()
        code, raw, error, retry_after = None, b"", None, None
        with limited(seconds) as limit:
            try:
                # No time-out of its own, or it would race with the limit, which cuts the connection.
                with self._session().post(
                    self._url,
                    data=body,
                    headers=self._headers(callback_id, body),
                    timeout=None,
                    allow_redirects=False,
                    stream=True,
                ) as response:
                    code = response.status_code
                    retry_after = wait_asked(response.headers.get("Retry-After"), now=self._wall())
                    raw = _first(response)
            except (requests.RequestException, HTTPError, HTTPException, OSError) as problem:
                error = _why(problem)
            if limit.over:
                error = f"no complete answer within {seconds:g} s"
        return HttpAnswer(
            delivered=error is None and code == 200 and not _says_no(raw),
            http_code=code,
            ms=round((time.monotonic() - began) * 1000, 1),
            head=None if code is None else self._head(raw),
            error=error,
            retry_after=retry_after,
        )

    def _session(self) -> requests.Session:
        session: requests.Session | None = getattr(self._local, "session", None)
        if session is None:
            session = self._local.session = timed_session()
        return session

    def _headers(self, callback_id: str, body: bytes) -> dict[str, str]:
        stamp = int(self._wall())
        headers = {
            "Content-Type": "application/json",
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "User-Agent": "ourvidz",
            "webhook-id": callback_id,
            "webhook-timestamp": str(stamp),
        }
        if self._bearer is not None:
            headers["Authorization"] = f"Bearer {self._bearer}"
        if self._key is not None:
            headers["webhook-signature"] = sign(self._key, callback_id, stamp, body)
        return headers

    def _head(self, raw: bytes) -> str:
        text = raw.decode(errors="replace")
        for hidden in self._hidden:
            text = text.replace(hidden, "***")  # before it is cut, so that no half of a secret is left at the end
        text = _SIGNATURE.sub(r"\1\2***", text)
        return "".join(char if char.isprintable() else " " for char in text[:HEAD_CHARACTERS]).strip()


def wait_asked(value: str | None, *, now: float) -> float | None:
    """Seconds that a `Retry-After` asks for: a number or an HTTP date. None for anything else; a day at most."""
    if value is None:
        return None
    if re.fullmatch(r"\s*[0-9]{1,15}\s*", value, re.ASCII):
        return min(float(value), LONGEST_WAIT)
    try:
        date = parsedate_to_datetime(value)
        at = (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None
    return min(max(0.0, math.ceil(at - now)), LONGEST_WAIT)


def _check(url: str, bearer: str | None) -> None:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ValueError("the callback URL must be http://host/path or https://host/path")
    if "@" in parts.netloc:
        raise ValueError("the callback URL must not hold a user or a password: they would replace the bearer token")
    if bearer is not None and not re.fullmatch(r"[\x21-\x7e]+", bearer):
        raise ValueError("the callback's bearer token must be printable ASCII without spaces")


def _first(response: requests.Response) -> bytes:
    """The answer's body, at most `ANSWER_BYTES` of it."""
    raw = bytearray()
    for piece in response.iter_content(8192):
        raw += piece
        if len(raw) >= ANSWER_BYTES:
            break
    return bytes(raw[:ANSWER_BYTES])


def _says_no(raw: bytes) -> bool:
    try:
        answer = json.loads(raw)
    except (ValueError, RecursionError):
        return False  # not JSON: then its status code is all that it says
    return isinstance(answer, dict) and answer.get("success") is False


def _why(problem: BaseException) -> str:
    """One sentence of our own: the libraries' own words repeat the URL, which may hold a token."""
    for error in _chain(problem):
        match error:
            case ssl.SSLError():
                return f"TLS failed: {error.reason or type(error).__name__}"
            case socket.gaierror():
                return "the receiver's name does not resolve"
            case TimeoutError() | requests.Timeout():
                return "no answer in time"
            case ConnectionRefusedError():
                return "connection refused"
            case ConnectionError():
                return "the receiver closed the connection"
    return f"no answer: {type(problem).__name__}"


def _chain(problem: BaseException) -> Iterator[BaseException]:
    """The innermost error first: that is what happened, the rest is who passed it on."""
    inner = problem.__cause__ or problem.__context__
    if inner is not None:
        yield from _chain(inner)
    yield problem
