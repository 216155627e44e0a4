"""References from the web: fetched, decoded and brought into the one form in which they are drawn with."""

import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final
from urllib.parse import unquote, urlsplit

from workers.errors import StageEnds
from workers.ports import ReferencePicture
from workers.presets import REFERENCE_BUCKETS
from workers.references.decoding import PixelLimits, decode, normalise
from workers.references.fetching import Limits, fetch
from workers.references.urls import parse

_KEPT: Final = re.compile(rf"/storage/v1/(object|render/image)/(authenticated/)?({'|'.join(REFERENCE_BUCKETS)})/.+")


class PrivateBuckets:
    """The buckets of references in one Supabase project, and the key that opens them if they are private.

    The key opens the whole project, and a GET of its other interfaces may do more than read: so it goes to these two
    buckets and to nothing else on that origin. Raises ValueError for an address that cannot be used.
    """

    def __init__(self, url: str, key: str) -> None:
        place = parse(url)
        self._origin = place.origin
        self._folder = urlsplit(place.target).path.rstrip("/")
        self._key = key

    def bearer_for(self, url: str) -> Mapping[str, str]:
        """What `fetch` is to be told for this URL: the origin and the key, or nothing. Never raises."""
        try:
            place = parse(url)
        except ValueError:
            return {}
        if place.origin != self._origin or not self._holds(place.target.partition("?")[0]):
            return {}
        return {self._origin: self._key}

    def _holds(self, path: str) -> bool:
        """Judged as the most eager reader behind a proxy would: each escape unescaped, each `..` followed."""
        while (plain := unquote(path)) != path:
            path = plain
        if "\\" in path or not path.startswith(f"{self._folder}/") or {".", ".."} & set(path.split("/")):
            return False
        return _KEPT.fullmatch(path.removeprefix(self._folder)) is not None


class WebReferences:
    """`workers.ports.References` over HTTP. `allowed` holds host:port that may be at addresses that are not public."""

    def __init__(
        self,
        *,
        allowed: frozenset[str] = frozenset(),
        private: PrivateBuckets | None = None,
        most_bytes: int = Limits.bytes,
        pixels: PixelLimits | None = None,
    ) -> None:
        self.allowed = allowed
        self.private = private
        self._most_bytes = most_bytes
        self._pixels = pixels or PixelLimits()

    def fetch(self, urls: Sequence[str], *, seconds: float) -> list[ReferencePicture | StageEnds]:
        """See `References.fetch`. Decoding comes on top of `seconds`; it is bounded by the pixels."""
        if not urls:
            return []
        with ThreadPoolExecutor(max_workers=len(urls), thread_name_prefix="reference") as pool:
            return list(pool.map(partial(self._one, seconds=seconds), urls))

    def _one(self, url: str, *, seconds: float) -> ReferencePicture | StageEnds:
        try:
            came = fetch(
                url,
                allowed=self.allowed,
                limits=Limits(bytes=self._most_bytes, seconds=seconds),
                bearer_for={} if self.private is None else self.private.bearer_for(url),
            )
            picture = decode(came.data, limits=self._pixels)
        except StageEnds as end:
            return end
        return ReferencePicture(
            png=normalise(picture),
            width=picture.width,
            height=picture.height,
            host=came.final_host,
            source_bytes=len(came.data),
            source_digest=picture.digest,
            notes=picture.notes,
        )
