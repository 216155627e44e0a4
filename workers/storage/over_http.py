"""What the storages over HTTP have in common: a request that ends in time, and what an answer means."""

import re
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from typing import Final

import requests
from urllib3.exceptions import HTTPError

from workers.errors import GiveUp, Misconfigured, StageEnds, TryAgain
from workers.receiver import wait_asked
from workers.timed_http import Limit, limited, timed_session

ANSWER_BYTES: Final = 256 * 1024

_AGAIN: Final = frozenset(
    {
        "BadDigest", "ConditionalRequestConflict", "IncompleteBody", "InvalidChecksum", "OperationAborted",
        "RequestThrottled", "RequestTimeout", "ResourceLocked", "SlowDown", "Throttling", "ThrottlingException",
        "XAmzContentSHA256Mismatch",
    }
)  # fmt: skip
_TO_BE_MENDED: Final = frozenset(
    {
        "AccessDenied", "AccountProblem", "AllAccessDisabled", "AuthorizationHeaderMalformed", "ExpiredToken",
        "InvalidAccessKeyId", "InvalidBucketName", "InvalidJWT", "InvalidMimeType", "InvalidSignature", "InvalidToken",
        "NoSuchBucket", "NotSignedUp", "PermanentRedirect", "RequestTimeTooSkewed", "SignatureDoesNotMatch",
        "TenantNotFound", "TokenRefreshRequired", "Unauthorized", "Bucket not found",
    }
)  # fmt: skip
_TOO_LARGE: Final = frozenset({"EntityTooLarge", "Payload too large"})
"""Error codes, of S3 and of Supabase, which words most of its own alike. They say more than the status does."""


@dataclass(frozen=True)
class Reply:
    """One whole answer. `headers` know no case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Wire:
    """Sends to one storage, which `name` names in sentences. May be used by several threads.

    No redirect is followed, and nothing but `verify` says which certificates are believed.
    """

    def __init__(self, name: str, *, verify: bool | str = True) -> None:
        self.name = name
        self._verify = verify
        self._local = threading.local()

    @contextmanager
    def within(self, seconds: float, *, most: int = ANSWER_BYTES) -> Iterator[None]:
        """Hold all that is sent inside to `seconds` together, and each answer to `most` bytes.

        The network's troubles leave it as TryAgain.
        """
        with limited(seconds) as limit:
            self._local.limit, self._local.most = limit, most
            try:
                yield
            except (requests.RequestException, HTTPError, HTTPException, OSError) as problem:
                why = f"no complete answer within {seconds:g} s" if limit.over else _why(problem)
                raise TryAgain(f"{self.name}: {why}", error_type="StorageError") from problem
            finally:
                self._local.limit = None

    def send(self, request: requests.PreparedRequest, *, most: int | None = None) -> Reply:
        """Send it as it is and return the answer, its body cut as `within` or `most` says. Only for inside of it."""
        limit: Limit = self._local.limit
        most = self._local.most if most is None else most
        # A session for each: a kept one would take up a connection again that the server is about to close.
        # No time-out of its own: the limit cuts the connection, and dialling and sending go by it.
        with (
            timed_session() as session,
            session.send(request, timeout=None, verify=self._verify, allow_redirects=False, stream=True) as response,
        ):
            body = bytearray()
            for piece in response.iter_content(64 * 1024):
                body += piece
                if len(body) >= most:
                    break
            limit.left()  # an answer that was cut looks like one that is over
            return Reply(response.status_code, response.headers, bytes(body[:most]))


def verdict(name: str, status: int, code: str, said: str, headers: Mapping[str, str]) -> StageEnds:
    """What an answer that is no success means. `said` is shown: it must hold no secret."""
    answered = f"{name} answered {status}{f' {code}' if code else ''}{f': {said}' if said else ''}"
    if code in _TOO_LARGE or status == 413:
        return GiveUp(
            f"Generation failed: the file is larger than the storage takes: {answered}", error_type="StorageRefused"
        )
    mended = code in _TO_BE_MENDED or status in (401, 402, 403, 404, 405, 415, 507) or status < 400
    if code not in _AGAIN and mended:
        return Misconfigured(answered, error_type="StorageUnwritable")
    if code in _AGAIN or status in (408, 409, 423, 425, 429) or status >= 500:
        wait = wait_asked(headers.get("Retry-After"), now=time.time())
        return TryAgain(answered, error_type="StorageError", retry_after=wait)
    return GiveUp(f"Generation failed: {answered}", error_type="StorageRefused")


def printable(text: object, *, most: int) -> str:
    """The text in one line, cut. Nothing for what is no text."""
    if not isinstance(text, str):
        return ""
    return re.sub(r"\s+", " ", "".join(char if char.isprintable() else " " for char in text)).strip()[:most]


def _why(problem: BaseException | None) -> str:
    """A sentence of our own: the libraries' words repeat addresses. The innermost error is what happened."""
    chain: list[BaseException] = []
    while problem is not None:
        chain.insert(0, problem)
        problem = problem.__cause__ or problem.__context__
    for error in chain:
        match error:
            case ssl.SSLError():
                return f"TLS failed: {error.reason or type(error).__name__}"
            case socket.gaierror():
                return "its name does not resolve"
            case TimeoutError() | requests.Timeout():
                return "no answer in time"
            case ConnectionRefusedError():
                return "connection refused"
            case ConnectionError():
                return "it closed the connection"
    return f"no answer: {type(chain[-1]).__name__}"
