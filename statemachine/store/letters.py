"""The one thing that is written on a dead letter: that somebody put it through the door again."""

from datetime import datetime

from sqlalchemy import Connection, update

from statemachine.store.schema import dead_letters


def mark_requeued(connection: Connection, letter_id: int, *, by: str, at: datetime) -> bool:
    """Record who requeued a dead letter, and when. False when somebody did so before."""
    statement = (
        update(dead_letters)
        .where(dead_letters.c.id == letter_id, dead_letters.c.requeued_at.is_(None))
        .values(requeued_at=at, requeued_by=by)
        .returning(dead_letters.c.id)
    )
    return connection.scalar(statement) is not None
