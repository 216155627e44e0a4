"""Fixtures that every test may ask for."""

from tests.servers import (
    empty_sqlite,
    fresh_database,
    postgres_url,
    store,
    template_database,
    tiny,
    valkey_url,
)

__all__ = ["empty_sqlite", "fresh_database", "postgres_url", "store", "template_database", "tiny", "valkey_url"]
