"""Asking for a reference, and what is expected of the answer."""

from typing import Any

import pytest

from workers.errors import GiveUp, TryAgain
from workers.references.fetching import Fetched, Limits, fetch

PICTURE = b"\x89PNG and so on"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n"
LIMITS = Limits(bytes=100_000, seconds=60.0, redirects=3)
"""Sixty seconds are a limit that only a broken test reaches."""
SHORT = Limits(bytes=100_000, seconds=0.3, redirects=3)
INSIDE = " is not at a public address"


def get(url: str, *, allowed: frozenset[str] = frozenset(), limits: Limits = LIMITS, **more: Any) -> Fetched:
    return fetch(url, allowed=allowed, limits=limits, bearer_for=more.pop("bearer_for", {}), **more)


def refused(url: str, **more: Any) -> str:
    with pytest.raises(GiveUp) as caught:
        get(url, **more)
    assert caught.value.error_type == "ReferenceRefused"
    return caught.value.message


def passing(url: str, **more: Any) -> TryAgain:
    with pytest.raises(TryAgain) as caught:
        get(url, **more)
    assert caught.value.error_type == "ReferenceUnreachable"
    return caught.value
