"""Supabase Storage over its HTTP interface: `{SUPABASE_URL}/storage/v1/object/{bucket}/{user_id}/{file}`.

Its status line says little: most refusals come as 400 with the real status in the body,
`{"statusCode": "404", "error": "Bucket not found", "message": "Bucket not found"}`.
Source: the error classes of https://github.com/supabase/storage.
"""

import json
import re
from collections.abc import Sequence
from typing import Any, Final, Literal
from urllib.parse import urlsplit

import requests

from workers.errors import Misconfigured, StageEnds, TryAgain
from workers.storage.keys import check_bucket, split_key
from workers.storage.over_http import ANSWER_BYTES, Reply, Wire, printable, verdict

_DUPLICATE: Final = frozenset({"Duplicate", "KeyAlreadyExists", "ResourceAlreadyExists"})
_NO_OBJECT: Final = frozenset({"not_found", "NoSuchKey"})


class SupabaseBucket:
    """Assets in the buckets of one Supabase project. `key` is sent to the origin of `url` and to no other.

    Raises ValueError for a URL or a key that cannot be used, without repeating them.
    """

    def __init__(self, url: str, key: str) -> None:
        _check(url, key)
        self._base = f"{url.rstrip('/')}/storage/v1"
        self._key = key
        self._wire = Wire("Supabase Storage")

    def put(self, bucket: str, key: str, data: bytes, *, content_type: str, seconds: float) -> None:
        """See `Bucket.put`. "There is one already" is a success where what is there are these bytes."""
        split_key(key)
        path = f"{check_bucket(bucket)}/{key}"
        with self._wire.within(seconds):
            headers = {"Content-Type": content_type, "x-upsert": "true"}
            reply = self._wire.send(self._request("POST", f"object/{path}", headers, data))
            answer = _json(reply)
            if reply.status == 200 and isinstance(answer, dict) and isinstance(answer.get("Key"), str):
                return
            if self._is_duplicate(reply) and self._holds(path, data):
                return
        raise self._problem(reply)

    def get(self, bucket: str, key: str, *, most: int, seconds: float) -> bytes | None:
        """See `Bucket.get`."""
        split_key(key)
        path = f"{check_bucket(bucket)}/{key}"
        with self._wire.within(seconds, most=max(most, ANSWER_BYTES)):
            reply = self._wire.send(self._reading(path))
        if reply.status == 200:
            return reply.body[:most]
        if not _NO_OBJECT.isdisjoint(_meaning(reply)[1]):
            return None
        raise self._problem(reply)

    def remove(self, bucket: str, key: str, *, seconds: float) -> None:
        """See `Bucket.remove`. What caches have of a public one is gone when they come to ask again."""
        split_key(key)
        with self._wire.within(seconds):
            reply = self._wire.send(self._request("DELETE", f"object/{check_bucket(bucket)}/{key}", {}))
        gone = reply.status == 200 and isinstance(_json(reply), dict)
        if not gone and _NO_OBJECT.isdisjoint(_meaning(reply)[1]):
            raise self._problem(reply)

    def url(self, bucket: str, key: str, *, how: Literal["public", "signed"], holds: int, seconds: float) -> str:
        """See `Bucket.url`. Storage is asked for a signed one, and tells it as a path below its own address."""
        split_key(key)
        path = f"{check_bucket(bucket)}/{key}"
        if how == "public":
            return f"{self._base}/object/public/{path}"
        asked = json.dumps({"expiresIn": holds}).encode()
        with self._wire.within(seconds):
            reply = self._wire.send(
                self._request("POST", f"object/sign/{path}", {"Content-Type": "application/json"}, asked)
            )
        answer = _json(reply)
        signed = answer.get("signedURL") if isinstance(answer, dict) else None
        if reply.status == 200 and isinstance(signed, str) and signed.startswith(f"/object/sign/{path}?"):
            return f"{self._base}{signed}"
        if not _NO_OBJECT.isdisjoint(_meaning(reply)[1]):
            raise TryAgain(f"{self._wire.name} has no {path} any more", error_type="AssetMissing")
        raise self._problem(reply)

    def missing(self, buckets: Sequence[str], *, seconds: float) -> list[str]:
        """Which of these buckets the project does not have. Raises like `put`; changes nothing."""
        with self._wire.within(seconds):
            reply = self._wire.send(self._request("GET", "bucket", {}))
        listed = _json(reply)
        if reply.status != 200 or not isinstance(listed, list):
            raise self._problem(reply)
        there = {entry.get("id") for entry in listed if isinstance(entry, dict)}
        return [bucket for bucket in buckets if bucket not in there]

    def _request(
        self, method: str, path: str, headers: dict[str, str], data: bytes | None = None
    ) -> requests.PreparedRequest:
        # The gateway knows the older keys by Authorization and the newer ones, which are no JWT, by apikey.
        always = {
            "Authorization": f"Bearer {self._key}",
            "apikey": self._key,
            "Accept-Encoding": "identity",
            "Connection": "close",
            "User-Agent": "ourvidz",
        }
        return requests.Request(method, f"{self._base}/{path}", headers=always | headers, data=data).prepare()

    def _reading(self, path: str) -> requests.PreparedRequest:
        return self._request("GET", f"object/authenticated/{path}", {"Cache-Control": "no-cache"})

    def _holds(self, path: str, data: bytes) -> bool:
        """Whether these very bytes are stored there."""
        reply = self._wire.send(self._reading(path), most=len(data) + 1)
        return reply.status == 200 and reply.body == data

    def _is_duplicate(self, reply: Reply) -> bool:
        status, codes, _ = _meaning(reply)
        return status == 409 or not _DUPLICATE.isdisjoint(codes)

    def _problem(self, reply: Reply) -> StageEnds:
        if reply.status < 300:
            return Misconfigured(
                f"{self._wire.name} answered {reply.status} without what it should: "
                "SUPABASE_URL must be the address of a Supabase project",
                error_type="StorageUnwritable",
            )
        status, codes, said = _meaning(reply)
        code = codes[0] if codes else ""
        if not _DUPLICATE.isdisjoint(codes):
            status = 409  # others wrote at the same time, or the server replaces nothing: only time can tell
        said = printable(said.replace(self._key, "***"), most=200)
        return verdict(self._wire.name, status, code.replace(self._key, "***"), said, reply.headers)


def _meaning(reply: Reply) -> tuple[int, list[str], str]:
    """The real status, the codes by which the answer calls its error, and its message."""
    answer = _json(reply)
    if not isinstance(answer, dict):
        return reply.status, [], ""
    status = reply.status
    if status == 400 and re.fullmatch(r"[45]\d\d", str(answer.get("statusCode")), re.ASCII):
        status = int(str(answer["statusCode"]))
    codes = [printable(answer.get(name), most=60) for name in ("code", "error")]
    message = answer.get("message")
    return status, [code for code in codes if code], message if isinstance(message, str) else ""


def _json(reply: Reply) -> Any:
    try:
        return json.loads(reply.body)
    except (ValueError, RecursionError):
        return None


def _check(url: str, key: str) -> None:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or "@" in parts.netloc or parts.query or parts.fragment:
        raise ValueError("SUPABASE_URL must be https://host or http://host, without a user, a ? or a #")
    if not re.fullmatch(r"[\x21-\x7e]+", key):
        raise ValueError("SUPABASE_SERVICE_KEY must be printable ASCII without spaces")
