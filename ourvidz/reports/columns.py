"""The columns of a report: what each holds, and how that is told to people."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from ourvidz.wording import brief, clause, size


class Form(StrEnum):
    """How a value is told. Data keeps it raw: seconds, bytes, shares between 0 and 1."""

    NAME = "name"
    ID = "id"
    COUNT = "count"
    SECONDS = "seconds"
    BYTES = "bytes"
    SHARE = "share"


NOBODY: Final = "–"
_ID: Final = 13
"""Characters of a user's id: enough to tell users apart, and to leave room for numbers. Data has it whole."""


@dataclass(frozen=True)
class Column:
    """`name` is that of the data, with its unit in it; `title` stands above the table's column."""

    name: str
    title: str
    form: Form

    @property
    def words(self) -> bool:
        """It names something, and counts nothing."""
        return self.form in (Form.NAME, Form.ID)

    def told(self, value: Any) -> str:
        """The value as people read it; a dash where there is none."""
        if value is None:
            return NOBODY
        match self.form:
            case Form.NAME:
                return clause(str(value), 60)
            case Form.ID:
                return clause(str(value)[:_ID], _ID)
            case Form.COUNT:
                return f"{value:,}"
            case Form.SECONDS:
                return brief(value)
            case Form.BYTES:
                return size(value)
            case Form.SHARE:
                return _percent(value)


def _percent(value: float) -> str:
    """Never 0 % of what there is some of, nor 100 % of what is not whole."""
    if 0 < value < 0.0005:
        return "<0.1%"
    if 0.9995 <= value < 1:
        return "99.9%"
    return f"{value:.1%}" if 0 < value < 0.0995 or 0.9905 <= value < 1 else f"{value:.0%}"


def user(title: str) -> Column:
    """Whose it is."""
    return Column("user_id", title, Form.ID)


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
