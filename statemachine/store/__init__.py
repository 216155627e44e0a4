"""The event store, on SQLite and PostgreSQL."""
