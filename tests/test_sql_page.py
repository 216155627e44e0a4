"""docs/sql.md: every question runs on both databases, and both answer what the page shows."""

import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from functools import cache
from typing import Any, Final

import psycopg
import pytest
from sqlalchemy import make_url

from docs import answers
from statemachine.store import views
from tests.servers import database

TEXT: Final = answers.PAGE.read_text("utf-8")
QUESTIONS: Final = [
    pytest.param(found[1], found[2], id=TEXT[: found.start()].rpartition("### ")[2].partition("\n")[0])
    for found in answers.QUESTION.finditer(TEXT)
]


def reader(url: str) -> Any:
    """A connection of the database's own driver, as any client would open it."""
    if url.startswith("sqlite"):
        return sqlite3.connect(url.removeprefix("sqlite:///"))
    plain = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    return psycopg.connect(plain, options="-c timezone=UTC")


@pytest.fixture(scope="module")
def histories(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], Any]]:
    """Kind of database → a connection to one with the example history in it, written once."""
    with ExitStack() as opened:

        @cache
        def written(kind: str) -> Any:
            url = opened.enter_context(database(request, kind, tmp_path_factory.mktemp(kind)))
            answers.write_history(url)
            return opened.enter_context(closing(reader(url)))

        yield written


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
@pytest.mark.parametrize(("question", "shown"), QUESTIONS)
def test_the_answer_is_the_one_that_is_shown(
    histories: Callable[[str], Any], kind: str, question: str, shown: str
) -> None:
    """`python -m docs.generate` mends it."""
    names, rows = answers.ask(histories(kind).cursor(), question)
    assert answers.table(names, rows) == shown.rstrip("\n")
    assert rows


def test_every_view_is_asked_and_every_question_answered() -> None:
    asked = "\n".join(found[1] for found in answers.QUESTION.finditer(TEXT))
    public = [name for name in views.SQL if not name.startswith("rollup_")]  # which the daily views are made of
    assert [name for name in public if not re.search(rf"\b{name}\b", asked)] == []
    assert TEXT.count("```sql\n") == len(QUESTIONS) > 20


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
@pytest.mark.parametrize("percent", [50, 90, 95, 99])
def test_percentiles_by_cume_dist_are_exact(histories: Callable[[str], Any], kind: str, percent: int) -> None:
    """Of 1 to 200 values, it is the one that so many of them do not exceed, in spite of fractions that are rounded."""
    _, rows = answers.ask(
        histories(kind).cursor(),
        f"""WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 200)
        SELECT n, MIN(x) FILTER (WHERE share >= {percent / 100})
        FROM (
          SELECT many.n, x.n AS x, CUME_DIST() OVER (PARTITION BY many.n ORDER BY x.n) AS share
          FROM numbers AS many JOIN numbers AS x ON x.n <= many.n
        ) AS ranked
        GROUP BY n""",
    )
    assert {int(n): int(x) for n, x in rows} == {n: -(-n * percent // 100) for n in range(1, 201)}
