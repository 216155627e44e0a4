"""The tables of what was archived: which archives there are, and which jobs are in them rather than here."""

from typing import Final

from sqlalchemy import Column, Integer, String, Table, Text

from statemachine.store.schema import Id, Utc, metadata

archives: Final = Table(
    "archives",
    metadata,
    Column("name", Text, primary_key=True),
    Column("place", Text, nullable=False),
    Column("digest", String(64), nullable=False),
    Column("jobs", Integer, nullable=False),
    Column("first_finished_at", Utc, nullable=False),
    Column("last_finished_at", Utc, nullable=False),
    Column("made_at", Utc, nullable=False),
    Column("made_by", Text, nullable=False),
    Column("done_at", Utc),
)

archived_jobs: Final = Table(
    "archived_jobs",
    metadata,
    Column("job_id", Id, primary_key=True),
    Column("archive", Text, nullable=False),
    Column("payload_digest", String(64), nullable=False),
    Column("state", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("digest", String(64), nullable=False),
    Column("finished_at", Utc, nullable=False),
    Column("archived_at", Utc, nullable=False),
)
