"""Names in storage. They are built from validated UUIDs and a number, never from a payload's strings."""

import re
from typing import Final

from workers.errors import GiveUp

_UUID: Final = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_ID: Final = re.compile(_UUID, re.ASCII)
_KEY: Final = re.compile(rf"({_UUID})/({_UUID}_(?:0|[1-9][0-9]{{0,3}})\.(?:png|mp4))", re.ASCII)
_BUCKET: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}", re.ASCII)


def asset_key(user_id: str | None, job_id: str, index: int, extension: str) -> str:
    """Return `{user_id}/{job_id}_{index}.{extension}`, ids in lower case. Raises GiveUp for anything else."""
    user = _uuid("user_id", user_id)
    key = f"{user}/{_uuid('job_id', job_id)}_{index}.{extension}"
    split_key(key)
    return key


def split_key(key: str) -> tuple[str, str]:
    """Return the folder and the file of a key, or raise GiveUp: storages believe no key that they are handed."""
    found = _KEY.fullmatch(key)
    if found is None:
        raise GiveUp(
            f"Invalid parameters: the key must be {{user}}/{{job}}_{{index}}.png or .mp4, got {key!r}",
            error_type="InvalidKey",
        )
    return found[1], found[2]


def check_bucket(bucket: str) -> str:
    """Return the bucket's name, or raise GiveUp when it could be anything but a plain name."""
    if _BUCKET.fullmatch(bucket) is None:
        raise GiveUp(f"Invalid parameters: {bucket!r} is not the name of a bucket", error_type="InvalidKey")
    return bucket


def _uuid(what: str, value: str | None) -> str:
    text = "" if value is None else value.lower()
    if _ID.fullmatch(text) is None:
        raise GiveUp(f"Invalid parameters: {what} must be a UUID, got {value!r}", error_type="InvalidKey")
    return text
