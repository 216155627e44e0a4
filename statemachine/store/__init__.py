"""The event store, on SQLite and PostgreSQL."""

from statemachine.store import anchors_schema, archive_schema, device_reports, job_reports
from statemachine.store.store import EventStore, open_store

__all__ = ["EventStore", "anchors_schema", "archive_schema", "device_reports", "job_reports", "open_store"]
