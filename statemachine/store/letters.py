"""Dead letters: kept once, and marked when somebody put them through the door again."""

import hashlib
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, Text, bindparam, select, update

from statemachine.admission import DeadLetter
from statemachine.store.schema import dead_letters

LOOKED_AT: Final = 200
"""The latest letters, twice as many as an ingress settles at once: what one settles again is among them. Reading no
more keeps a flood of bad payloads from slowing down the good ones."""

_LATEST: Final = (
    select(dead_letters.c.raw_digest, dead_letters.c.queue, dead_letters.c.requeued_at)
    .order_by(dead_letters.c.id.desc())
    .limit(LOOKED_AT)
    .subquery()
)
_KEPT: Final = (
    select(_LATEST.c.queue)
    .where(
        _LATEST.c.requeued_at.is_(None),
        _LATEST.c.raw_digest == bindparam("of_digest", type_=Text),
        _LATEST.c.queue == bindparam("of_queue", type_=Text),
    )
    .limit(1)
)


def bury(connection: Connection, letter: DeadLetter, *, at: datetime) -> None:
    """Keep the bytes, the reason and where they came from, unless they came a moment ago and wait for somebody still.

    An ingress that dies between its commit and the removal from its list brings them a second time.
    """
    raw_digest = hashlib.sha256(letter.raw).hexdigest()
    if connection.scalar(_KEPT, {"of_digest": raw_digest, "of_queue": letter.queue}) is not None:
        return
    connection.execute(
        dead_letters.insert(),
        {
            "job_id": letter.job_id,
            "queue": letter.queue,
            "source": letter.source,
            "reason": letter.reason,
            "raw": letter.raw,
            "raw_digest": raw_digest,
            "at": at,
        },
    )


def mark_requeued(connection: Connection, letter_id: int, *, by: str, at: datetime) -> bool:
    """Record who requeued a dead letter, and when. False when somebody did so before."""
    statement = (
        update(dead_letters)
        .where(dead_letters.c.id == letter_id, dead_letters.c.requeued_at.is_(None))
        .values(requeued_at=at, requeued_by=by)
        .returning(dead_letters.c.id)
    )
    return connection.scalar(statement) is not None
