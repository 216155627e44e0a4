"""What an anchor says: a root over the jobs that changed in a window of the history, chained to the anchor before it.

Each job's own chain proves that nothing in front of its last event was changed. It cannot see that its end was cut off,
that all of it was hashed anew, or that the whole job is gone: of that the anchors tell.
"""

import hashlib
import hmac
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Final

import msgspec

KEY_ID_LENGTH: Final = 16


class Leaf(msgspec.Struct, frozen=True, kw_only=True):
    """A job's last event in a window. Its digest covers the events before it."""

    job_id: str
    version: int
    digest: str


class Anchor(msgspec.Struct, frozen=True, kw_only=True):
    """One window: the events at positions above `above`, up to and with `up_to`. Windows join without a gap."""

    sequence: int
    above: int
    up_to: int
    jobs: int
    events: int
    at: datetime
    made_by: str
    previous: str
    key_id: str | None
    root: str = ""

    @property
    def line(self) -> str:
        """What the log holds of it."""
        return f"{self.sequence}:{self.root}"


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """A secret that whoever can write the database does not have. Its `id` is not secret."""

    secret: bytes

    @property
    def id(self) -> str:
        """Tells keys apart, and nothing of the secret."""
        return hashlib.sha256(b"ourvidz anchor key\0" + self.secret).hexdigest()[:KEY_ID_LENGTH]


def keys_of(text: str) -> list[Key]:
    """The keys of a setting: the first one signs, and the others are those that signed before it."""
    return [Key(secret=word.encode()) for word in text.split()]


def root(anchor: Anchor, leaves: Iterable[Leaf], key: Key | None) -> str:
    """The anchor's root by what it says and by its leaves: sha256, or HMAC-SHA256 with a key."""
    below = hashlib.sha256()
    for leaf in sorted(leaves, key=lambda leaf: leaf.job_id):
        below.update(msgspec.json.encode([leaf.job_id, leaf.version, leaf.digest]) + b"\n")
    said = msgspec.json.encode(
        [
            anchor.sequence,
            anchor.above,
            anchor.up_to,
            anchor.jobs,
            anchor.events,
            anchor.at.astimezone(UTC).isoformat(timespec="microseconds"),
            anchor.made_by,
            anchor.previous,
            anchor.key_id,
            below.hexdigest(),
        ]
    )
    return hashlib.sha256(said).hexdigest() if key is None else hmac.new(key.secret, said, hashlib.sha256).hexdigest()


def find(keys: Sequence[Key], key_id: str) -> Key | None:
    """The key of that id, if it is one of these."""
    return next((key for key in keys if key.id == key_id), None)
