"""The columns of a report: what each holds, and how that is told to people."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from ourvidz.wording import brief, clause, size


class Form(StrEnum):
    """How a value is told. Data keeps it raw: seconds, bytes, shares between 0 and 1."""

    NAME = "name"
    COUNT = "count"
    SECONDS = "seconds"
    BYTES = "bytes"
    SHARE = "share"


NOBODY: Final = "–"


@dataclass(frozen=True)
class Column:
    """`name` is that of the data, with its unit in it; `title` stands above the table's column."""

    name: str
    title: str
    form: Form

    def told(self, value: Any) -> str:
        """The value as people read it; a dash where there is none."""
        if value is None:
            return NOBODY
        match self.form:
            case Form.NAME:
                return clause(str(value), 60)
            case Form.COUNT:
                return f"{value:,}"
            case Form.SECONDS:
                return brief(value)
            case Form.BYTES:
                return size(value)
            case Form.SHARE:
                return f"{value:.1%}" if 0 < value < 0.0995 else f"{value:.0%}"


def name(of: str, title: str) -> Column:
    """Words."""
    return Column(of, title, Form.NAME)


def count(of: str, title: str | None = None) -> Column:
    """A number of things."""
    return Column(of, title or of, Form.COUNT)


def seconds(of: str, title: str) -> Column:
    """A duration."""
    return Column(of, title, Form.SECONDS)


def share(of: str, title: str) -> Column:
    """A part of the whole."""
    return Column(of, title, Form.SHARE)


def size_of(of: str, title: str) -> Column:
    """An amount of data."""
    return Column(of, title, Form.BYTES)
