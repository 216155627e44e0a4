"""Plain JSON for programs: times in UTC, secrets and signed URLs masked, no bytes."""

from datetime import UTC, datetime
from typing import Any

import msgspec

from ourvidz.masking import mask_value


def plain(value: dict[str, Any]) -> dict[str, Any]:
    """The mapping as JSON takes it, masked."""
    document: dict[str, Any] = mask_value(msgspec.to_builtins(_utc(value)))
    return document


def row_document(row: dict[str, Any]) -> dict[str, Any]:
    """A row of the database. Bytes are left out: they may be a payload."""
    return plain({key: value for key, value in row.items() if not isinstance(value, bytes)})


def _utc(value: Any) -> Any:
    """Times in UTC whatever zone the database's session has, so that the same row gives the same text."""
    if isinstance(value, datetime):
        return value.astimezone(UTC)
    if isinstance(value, dict):
        return {key: _utc(item) for key, item in value.items()}
    return [_utc(item) for item in value] if isinstance(value, list | tuple) else value
