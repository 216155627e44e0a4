"""The answers in docs/sql.md: its questions, asked of the example history. `python -m docs.generate` writes them.

A question is a block of SQL, its answer the block of text behind it.
"""

import re
import sqlite3
import tempfile
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from docs.example_history import BEGIN, live
from docs.lives import SetClock
from ourvidz.migrate import upgrade
from statemachine.store import open_store
from statemachine.store.rolling import roll

PAGE: Final = Path(__file__).parent / "sql.md"
QUESTION: Final = re.compile(r"^```sql\n(.*?)^```\n\n```text\n(.*?)^```$", re.DOTALL | re.MULTILINE)
TIME: Final = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6}")

Answer = tuple[list[str], list[list[str]]]
"""The names of the columns, and the rows as text."""


def write_history(url: str) -> None:
    """The example history, in an empty database that has the tables. Its first day is over, and rolled up."""
    clock = SetClock(BEGIN)
    with closing(open_store(url, clock=clock)) as store:
        live(store, clock)
        assert list(roll(store.engine, BEGIN + timedelta(hours=4)))


def ask(cursor: Any, question: str) -> Answer:
    """The question as it stands, put to a driver's cursor. What databases write differently is written alike."""
    cursor.execute(question)
    return [column[0] for column in cursor.description], [[_text(value) for value in row] for row in cursor.fetchall()]


def fill(page: str, asked: Callable[[str], Answer]) -> str:
    """The page with all its answers made anew."""
    return QUESTION.sub(lambda found: f"```sql\n{found[1]}```\n\n```text\n{table(*asked(found[1]))}\n```", page)


def table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns below their names, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(names, *rows, strict=True)]
    right = [all(re.fullmatch(r"-?[\d.]*", value) for value in column) for column in zip(*rows, strict=True)]

    def line(values: Sequence[str]) -> str:
        cells = zip(values, widths, right or [False] * len(names), strict=True)
        return "  ".join(text.rjust(width) if is_number else text.ljust(width) for text, width, is_number in cells)

    lines = [line(names), "  ".join("-" * width for width in widths), *map(line, rows)]
    return "\n".join(text.rstrip() for text in lines)


def _text(value: Any) -> str:
    match value:
        case None:
            return ""
        case datetime():
            return _trimmed(f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f}")
        case str() if TIME.fullmatch(value):
            return _trimmed(value)
        case float() | Decimal():
            return f"{value:.6f}".rstrip("0").rstrip(".")
        case _:
            return str(value)


def _trimmed(time: str) -> str:
    return time.rstrip("0").rstrip(".")


def main() -> None:
    """Write the answers anew."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "example.sqlite"
        upgrade(f"sqlite:///{path}")
        write_history(f"sqlite:///{path}")
        with closing(sqlite3.connect(path)) as connection:
            PAGE.write_text(fill(PAGE.read_text("utf-8"), lambda question: ask(connection.cursor(), question)), "utf-8")
