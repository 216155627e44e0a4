"""The views: questions that are asked so often that the database answers them by name.

Their names and columns are public. A view is declared once, in words that are mostly the same on both databases; for
what they say differently there is a word of ours: `SECONDS(a, b)` from a to b, `DAY(t)` and `HOUR(t)` as text in UTC.
"""

import re
from typing import Any, Final

from sqlalchemy import DDL, Column, Float, Integer, MetaData, Table, Text, event
from sqlalchemy.types import TypeEngine

from statemachine.store.schema import Id, Utc, metadata

declared: Final = MetaData()
"""Views as tables: to be read from, never to be created as such."""

SQL: Final[dict[str, str]] = {}
"""Name → its statement, in our words, in the order in which views are created."""

# The times of SQLite are text of one length, so the fraction is counted apart: strftime would round it to milliseconds.
_WORDS: Final = {
    "sqlite": {
        "SECONDS": r"(((strftime('%s', substr(\2, 1, 19)) - strftime('%s', substr(\1, 1, 19))) * 1000000 "
        r"+ substr(\2, 21) - substr(\1, 21)) / 1000000.0)",
        "DAY": r"substr(\1, 1, 10)",
        "HOUR": r"(substr(\1, 1, 13) || ':00')",
    },
    "postgresql": {
        "SECONDS": r"CAST(EXTRACT(EPOCH FROM (\2 - \1)) AS DOUBLE PRECISION)",
        "DAY": r"to_char(\1 AT TIME ZONE 'UTC', 'YYYY-MM-DD')",
        "HOUR": r"to_char(\1 AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:00')",
    },
    "duckdb": {  # in which archives are read
        "SECONDS": r"(epoch_us(\2) - epoch_us(\1)) / 1000000.0::DOUBLE",
        "DAY": r"strftime(\1 AT TIME ZONE 'UTC', '%Y-%m-%d')",
        "HOUR": r"strftime(\1 AT TIME ZONE 'UTC', '%Y-%m-%d %H:00')",
    },
}


def worded(statement: str, dialect: str) -> str:
    """The statement in the words of `dialect`. Our words take columns, and no expressions."""
    for word, theirs in _WORDS[dialect].items():
        taken = ", ".join([r"([\w.]+)"] * (2 if word == "SECONDS" else 1))
        statement = re.sub(rf"\b{word}\({taken}\)", theirs, statement)
    return statement


def view(name: str, columns: dict[str, type[TypeEngine[Any]] | TypeEngine[Any]], query: str) -> Table:
    """Declare a view: it is created after the tables and the views before it, and can be read from as a table."""
    SQL[name] = f"CREATE VIEW {name} AS\n{query}"
    for dialect in _WORDS:
        statement = worded(SQL[name], dialect).replace("%", "%%")  # DDL fills in what stands behind a single one
        event.listen(metadata, "after_create", DDL(statement).execute_if(dialect=dialect))  # type: ignore[no-untyped-call]
    return Table(name, declared, *(Column(column, kind) for column, kind in columns.items()))


completion_statistics: Final = view(
    "completion_statistics",
    {
        "job_id": Id,
        "user_id": Text,
        "job_type": Text,
        "reference_mode": Text,
        "assets_generated": Integer,
        "total_size_mb": Float,
        "completion_timestamp": Utc,
    },
    """SELECT jobs.id AS job_id, jobs.user_id, jobs.job_type, jobs.reference_mode, jobs.assets AS assets_generated,
  (SELECT CAST(COALESCE(SUM(job_assets.bytes), 0) AS DOUBLE PRECISION) / 1048576.0 FROM job_assets
   WHERE job_assets.job_id = jobs.id AND job_assets.run = jobs.run) AS total_size_mb,
  jobs.finished_at AS completion_timestamp
FROM jobs WHERE jobs.state = 'completed'""",
)
