"""What makes the history append-only: triggers that refuse every change of what is stored.

The one door is `retention_door`: while a row stands in it, rows may be deleted. Whoever opens it closes it in the
same transaction. UPDATE has no door at all.
"""

from typing import Final

from sqlalchemy import DDL, event

from statemachine.store.schema import job_events

SQLITE: Final = [
    """CREATE TRIGGER job_events_no_update BEFORE UPDATE ON job_events
BEGIN SELECT RAISE(ABORT, 'job_events is append-only: UPDATE refused'); END""",
    """CREATE TRIGGER job_events_no_delete BEFORE DELETE ON job_events
WHEN NOT EXISTS (SELECT 1 FROM retention_door)
BEGIN SELECT RAISE(ABORT, 'job_events is append-only: DELETE refused'); END""",
    # INSERT OR REPLACE deletes without firing a delete trigger, so what exists is refused on the way in.
    """CREATE TRIGGER job_events_no_replace BEFORE INSERT ON job_events
WHEN EXISTS (SELECT 1 FROM job_events WHERE job_id = NEW.job_id AND version = NEW.version)
  OR EXISTS (SELECT 1 FROM job_events WHERE position = NEW.position)
BEGIN SELECT RAISE(ABORT, 'job_events is append-only: REPLACE refused'); END""",
]

POSTGRESQL: Final = [
    """CREATE FUNCTION job_events_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'DELETE' AND EXISTS (SELECT 1 FROM retention_door) THEN
    RETURN OLD;
  END IF;
  RAISE EXCEPTION USING MESSAGE = 'job_events is append-only: ' || TG_OP || ' refused';
END $$""",
    """CREATE TRIGGER job_events_no_change BEFORE UPDATE OR DELETE ON job_events
FOR EACH ROW EXECUTE FUNCTION job_events_append_only()""",
    """CREATE TRIGGER job_events_no_truncate BEFORE TRUNCATE ON job_events
FOR EACH STATEMENT EXECUTE FUNCTION job_events_append_only()""",
]

_BY_DIALECT: Final = {"sqlite": SQLITE, "postgresql": POSTGRESQL}

for _dialect, _statements in _BY_DIALECT.items():
    for _statement in _statements:
        event.listen(
            job_events.metadata,
            "after_create",
            DDL(_statement).execute_if(dialect=_dialect),  # type: ignore[no-untyped-call]
        )
