"""Times as people type them."""

import re
from datetime import UTC, datetime, timedelta
from typing import Final

import typer

_UNITS: Final = {"s": "seconds", "m": "minutes", "min": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def parse_time(text: str | None, now: datetime) -> datetime | None:
    """`90s`, `2h`, `3d` before `now`, or an ISO time, read as UTC where it names no zone."""
    if text is None:
        return None
    try:
        if ago := re.fullmatch(r"(\d{1,6})\s*(s|m|min|h|d|w)(?:\s*ago)?", text.strip()):
            return now - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        moment = datetime.fromisoformat(text.strip())
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except ValueError as error:
        raise typer.BadParameter(f"a time is wanted as 90s, 2h, 3d, 4w or 2026-07-05T12:00, got {text!r}") from error
    except OverflowError as error:
        raise typer.BadParameter(f"{text!r} is a time before the year 1 or after the year 9999") from error
