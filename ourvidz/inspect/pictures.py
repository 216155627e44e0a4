"""A job's files, read from storage so that a page can hold them."""

import base64
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from ourvidz.inspect.page import place_of
from ourvidz.masking import mask
from ourvidz.wording import clause, size
from workers.errors import StageEnds
from workers.ports import Bucket
from workers.spool import sha256

EACH_BYTES: Final = 24_000_000
ALL_BYTES: Final = 64_000_000
"""What a page may hold: browsers open larger ones, but mail and tickets do not take them."""
SECONDS: Final = 20.0
SHOWN: Final = frozenset({"image/png", "video/mp4"})
"""What workers make. Nothing else is handed to a browser, whatever an event calls it."""


class File(msgspec.Struct, frozen=True, kw_only=True):
    """A file as a data URI, or None; `said` is what there is to say of it, and empty for one that is as it was made."""

    uri: str | None = None
    said: str = ""


def files(d: Mapping[str, Any], bucket: Bucket) -> dict[str, File]:
    """Place → file, for every asset that was uploaded. Reads no more than the page may hold, and nothing twice.

    A storage that does not answer is asked once: the others say the same.
    """
    found: dict[str, File] = {}
    left, away = ALL_BYTES, None
    for asset in d["assets"]:
        place = place_of(asset)
        if asset["key"] is None or place in found:
            continue
        if asset["content_type"] not in SHOWN:
            found[place] = File(said=f"{clause(asset['content_type'], 40)} is not shown")
        elif asset["bytes"] > min(left, EACH_BYTES):
            found[place] = File(said=f"{size(asset['bytes'])} are too many for this page")
        elif away is not None:
            found[place] = away
        else:
            try:
                found[place] = _file(asset, bucket)
            except StageEnds as problem:
                found[place] = away = File(said=f"it could not be read: {clause(mask(str(problem)), 200)}")
            left -= asset["bytes"] if found[place].uri else 0
    return found


def _file(asset: Mapping[str, Any], bucket: Bucket) -> File:
    data = bucket.get(asset["bucket"], asset["key"], most=asset["bytes"] + 1, seconds=SECONDS)
    if data is None:
        return File(said="it is not in the storage any more")
    uri = f"data:{asset['content_type']};base64,{base64.b64encode(data).decode()}"
    if len(data) > asset["bytes"]:
        return File(said="what lies there is not the file that was made: it is larger")
    return File(uri=uri, said="" if sha256(data) == asset["digest"] else "this is not the file that was made")
