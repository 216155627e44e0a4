"""What is to be made of one job: who asks for what and when, and which device has it when."""

from datetime import datetime
from typing import Final

import msgspec

SOURCE: Final = "bench"
"""Where false jobs say that they came from: who made the database, and what may never be mistaken for a real one."""


class Place(msgspec.Struct, frozen=True):
    """A worker on a device of a host."""

    worker_id: str
    host: str
    device: str
    version: str


class Booking(msgspec.Struct, frozen=True, kw_only=True):
    """The device that has the job, from when, for how many seconds, and what it has to load first.

    `other` is where a job goes on that this place gives up.
    """

    place: Place
    other: Place
    begins_at: datetime
    seconds: float
    loads: tuple[str, ...]


class Errand(msgspec.Struct, frozen=True, kw_only=True):
    """One job. `key` seeds all that is not drawn yet. One that waits has no booking, and a `turn` of its own."""

    key: str
    job_id: str
    at: datetime
    job_type: str
    images: int
    user_id: str
    turn: int = 0
    booking: Booking | None = None
