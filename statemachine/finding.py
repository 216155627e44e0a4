"""What a check of the history can find to be wrong, by name. Programs rely on the names."""

from enum import StrEnum

import msgspec


class Wrong(StrEnum):
    """The kinds of what can be found, each with what it says, as the page of integrity has it."""

    MISSING = "version_missing", "an event is not there, although later ones are, or `jobs` counts it"
    MOVED = "version_moved", "an event stands at another version than that at which it was written"
    CHANGED = "event_changed", "an event, or the one before it, is not what was written"
    UNREADABLE = "event_unreadable", "an event says what this version cannot understand"
    ILLEGAL = "event_illegal", "an event may not happen where it stands, or is dated before the one that it follows"
    PROJECTION = "projection", "rows of a table are not what the history says; `jobs rebuild` makes them anew"
    NO_HISTORY = "no_history", "`jobs` has the job, and no event of it is there"
    CUT = "events_cut", "an anchor covers events that are not there: the job's end was cut off, or all of it"
    REWRITTEN = "events_rewritten", "an anchor covers another event at that version: a history was hashed anew"
    INSERTED = "events_inserted", "an event stands where an anchor has counted, and this one was not there then"
    ANCHOR = "anchor", "an anchor is not what it was, is missing, or was made without the key"
    ASSET_MISSING = "asset_missing", "the storage does not have a file that was uploaded"
    ASSET_CHANGED = "asset_changed", "a file in the storage is not the one that was uploaded"
    ASSET_UNREAD = "asset_unread", "the storage did not give a file, so nothing is known of it"
    CONTENT = "content_changed", "payload, prompts or references in `job_payloads` are not those that came, or are gone"
    ERASED_LEFT = "erased_left", "the storage or `job_payloads` still has something of a job whose content was erased"

    about: str

    def __new__(cls, value: str, about: str) -> "Wrong":
        """Values are texts; `about` is for people."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.about = about
        return member


def gone(what: str, first: int, last: int) -> str:
    """`version 3 is`, `versions 3 to 5 are`."""
    return f"{what} {first} is" if first == last else f"{what}s {first} to {last} are"


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is wrong: where, and in one sentence what."""

    kind: Wrong
    said: str
    job_id: str | None = None
    version: int | None = None
    anchor: int | None = None
    asset: str | None = None
