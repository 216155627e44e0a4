"""What comes in at the door: a new job with its first events, or a dead letter."""

from enum import StrEnum
from typing import Any

import msgspec

from statemachine.events import Event


class NewJob(msgspec.Struct, frozen=True, kw_only=True):
    """A job that is not in the store yet.

    `events` begin with `JobQueued`; a refused payload has an `OutcomeDecided` behind it. `raw` is the payload
    as it came; `content` is its personal part (prompt, negative_prompt, references), kept apart from the history
    so that it can be erased.
    """

    job_id: str
    events: list[Event]
    raw: bytes
    content: dict[str, Any] | None


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """A payload that cannot become a job. `job_id` where one could be read."""

    raw: bytes
    reason: str
    queue: str
    source: str
    job_id: str | None = None


class Verdict(StrEnum):
    """What the store made of it. Each of them is final: the payload may leave its processing list."""

    NEW = "new"
    DUPLICATE = "duplicate"
    DEAD = "dead"


class Admission(msgspec.Struct, frozen=True, kw_only=True):
    """The verdict on one arrival, in the order in which they were given; `reason` for the dead."""

    verdict: Verdict
    job_id: str | None
    reason: str | None = None
