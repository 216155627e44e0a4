"""The event store, on SQLite and PostgreSQL."""

from statemachine.store.store import EventStore, open_store

__all__ = ["EventStore", "open_store"]
