"""How times, amounts and foreign text are put for people."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
_ORDINALS: Final = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")


def duration(seconds: float) -> str:
    """`42 ms`, `0.4 s`, `12 s`, `3 min 5 s`, `2 h 10 min`, `3 d 4 h`: two units at most."""
    if seconds < 0.0005:
        return "0 s"
    if seconds < 0.0995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 9.95:
        return f"{seconds:.1f} s".replace(".0 s", " s")
    whole = round(seconds)
    for size, unit, smaller, name in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            rest = whole % size // smaller
            return f"{whole // size} {unit} {rest} {name}" if rest else f"{whole // size} {unit}"
    return f"{whole} s"


def brief(seconds: float) -> str:
    """`42 ms`, `0.4 s`, `12 s`, `3m 05s`, `2h 10m`, `3d 04h`: at most seven characters, for columns."""
    if seconds < 59.5:
        return duration(seconds)
    whole = round(seconds)
    for size, unit, smaller, name in ((86400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):
        if whole >= size:
            return f"{whole // size}{unit} {whole % size // smaller:02d}{name}"
    return f"{whole} s"


def since(moment: datetime, now: datetime) -> str:
    """How long ago, as a duration; never negative, since two clocks may differ."""
    return duration(max(0.0, (now - moment).total_seconds()))


def clock(moment: datetime) -> str:
    """`12:03:10`, UTC."""
    return f"{moment.astimezone(UTC):%H:%M:%S}"


def stamp(moment: datetime) -> str:
    """`2026-07-05 12:03:10 UTC`."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def plural(number: int, one: str, many: str | None = None) -> str:
    """`1 picture`, `3 pictures`, `no picture`."""
    return f"{number or 'no'} {one if number in (0, 1) else many or one + 's'}"


def ordinal(number: int) -> str:
    """`first` to `tenth`, then `11th`."""
    if number <= len(_ORDINALS):
        return _ORDINALS[number - 1]
    ending = {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th") if number % 100 not in (11, 12, 13) else "th"
    return f"{number}{ending}"


def listed(names: Sequence[str], last: str = "and") -> str:
    """`a`, `a and b`, `a, b and c`."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {last} {names[-1]}" if names else ""


def size(number: float) -> str:
    """`812 B`, `1.3 MB`; a thousand at a time."""
    for unit in ("B", "kB", "MB", "GB"):
        if number < 999.5:
            return f"{number:.0f} {unit}" if unit == "B" or number >= 99.5 else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} TB"


def printable(text: str) -> str:
    """Foreign text without what could steer a terminal; each such character becomes U+FFFD."""
    return _CONTROL.sub("\ufffd", text.replace("\r\n", "\n"))


def escaped(document: str) -> str:
    """JSON with the same characters as `\\u009b`, which is what it was for whoever reads it."""
    return _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", document)


def clause(text: str, at_most: int = 160) -> str:
    """Foreign text as a part of a sentence: one line, no full stop at its end, cut where it is long."""
    line = " ".join(printable(text).split()).rstrip(".")
    return line if len(line) <= at_most else f"{line[: at_most - 1].rstrip()}…"
