"""Fixtures that every test may ask for."""

from tests.servers import valkey_url

__all__ = ["valkey_url"]
