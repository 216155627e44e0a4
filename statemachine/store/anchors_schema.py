"""The tables of the anchors. Append-only without any door: retention takes histories and leaves their anchors."""

from typing import Final

from sqlalchemy import DDL, BigInteger, Column, Index, Integer, String, Table, Text, event

from statemachine.store.schema import Id, Utc, metadata

anchors: Final = Table(
    "anchors",
    metadata,
    Column("sequence", Integer, primary_key=True, autoincrement=False),
    Column("above", BigInteger, nullable=False),
    Column("up_to", BigInteger, nullable=False),
    Column("jobs", Integer, nullable=False),
    Column("events", Integer, nullable=False),
    Column("at", Utc, nullable=False),
    Column("made_by", Text, nullable=False),
    Column("previous", String(64), nullable=False),
    Column("key_id", Text),
    Column("root", String(64), nullable=False),
    Index("ix_anchors_at", "at"),
)

anchored_jobs: Final = Table(
    "anchored_jobs",
    metadata,
    Column("job_id", Id, primary_key=True),
    Column("anchor", Integer, primary_key=True),
    Column("version", Integer, nullable=False),
    Column("digest", String(64), nullable=False),
    Index("ix_anchored_jobs_anchor", "anchor"),
)


def _sqlite(table: str, same: str) -> list[str]:
    refused = f"SELECT RAISE(ABORT, '{table} is append-only: "
    return [
        f"CREATE TRIGGER {table}_no_update BEFORE UPDATE ON {table}\nBEGIN {refused}UPDATE refused'); END",
        f"CREATE TRIGGER {table}_no_delete BEFORE DELETE ON {table}\nBEGIN {refused}DELETE refused'); END",
        f"CREATE TRIGGER {table}_no_replace BEFORE INSERT ON {table}\n"  # noqa: S608
        f"WHEN EXISTS (SELECT 1 FROM {table} WHERE {same})\nBEGIN {refused}REPLACE refused'); END",
    ]


def _postgresql(table: str) -> list[str]:
    refusing = "EXECUTE FUNCTION anchors_append_only()"
    return [
        f"CREATE TRIGGER {table}_no_change BEFORE UPDATE OR DELETE ON {table}\nFOR EACH ROW {refusing}",
        f"CREATE TRIGGER {table}_no_truncate BEFORE TRUNCATE ON {table}\nFOR EACH STATEMENT {refusing}",
    ]


TRIGGERS: Final[dict[str, list[str]]] = {
    "sqlite": [
        *_sqlite("anchors", "sequence = NEW.sequence"),
        *_sqlite("anchored_jobs", "job_id = NEW.job_id AND anchor = NEW.anchor"),
    ],
    "postgresql": [
        """CREATE FUNCTION anchors_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION USING MESSAGE = TG_TABLE_NAME || ' is append-only: ' || TG_OP || ' refused';
END $$""",
        *_postgresql("anchors"),
        *_postgresql("anchored_jobs"),
    ],
}

for _dialect, _statements in TRIGGERS.items():
    for _statement in _statements:
        event.listen(metadata, "after_create", DDL(_statement).execute_if(dialect=_dialect))  # type: ignore[no-untyped-call]
