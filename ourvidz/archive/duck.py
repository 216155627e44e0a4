"""Archives as tables and views of the names that the database has, in DuckDB."""

import glob
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from sqlalchemy import BigInteger, Boolean, Float, Integer, LargeBinary, String, Table

from ourvidz.archive.manifest import PREFIX
from statemachine.store.comparing import owner
from statemachine.store.retention import TABLES
from statemachine.store.schema import Utc, job_payloads, jobs, workers
from statemachine.store.views import SQL, worded

_TYPES: Final = (
    (Utc, "TIMESTAMPTZ"),
    (BigInteger, "BIGINT"),
    (Integer, "INTEGER"),
    (Boolean, "BOOLEAN"),
    (Float, "DOUBLE"),
    (LargeBinary, "BLOB"),
    (String, "VARCHAR"),
)

_LATEST: Final = """CREATE VIEW archived AS SELECT id AS job_id, parse_dirpath(filename) AS archive FROM {files}
QUALIFY row_number() OVER (PARTITION BY id ORDER BY version DESC, filename DESC) = 1"""
_TABLE: Final = """CREATE VIEW {name} AS SELECT found.* EXCLUDE (filename) FROM {files} AS found
SEMI JOIN archived ON archived.job_id = found.{owner} AND archived.archive = parse_dirpath(found.filename)"""


def statements(folder: Path) -> Iterator[str]:
    """The SQL that opens every archive in `folder`.

    A job that is in several of them, since it was requeued or a database restored, is that of its latest version.
    `workers` are in no archive, and empty; views over the daily rollups, which stay in the database, are left out.
    """
    yield "SET TimeZone = 'UTC'"
    yield _LATEST.format(files=_files(folder, jobs))
    tables = [table for table in (*TABLES, job_payloads) if any(folder.glob(_pattern(table)))]
    for table in tables:
        yield _TABLE.format(name=table.name, files=_files(folder, table), owner=owner(table).name)
    yield f"CREATE VIEW workers AS SELECT {_nothing(workers)} WHERE false"
    there = {table.name for table in tables} | {workers.name}
    for name, statement in SQL.items():
        if named(statement) <= there:
            there.add(name)
            yield re.sub(r"\bat\b", '"at"', worded(statement, "duckdb"))  # a word of DuckDB's own


def _files(folder: Path, table: Table) -> str:
    path = f"{glob.escape(str(folder))}/{_pattern(table)}".replace("'", "''")
    return f"read_parquet('{path}', filename = true, union_by_name = true)"


def _pattern(table: Table) -> str:
    return f"{PREFIX}*/{table.name}.parquet"


def _nothing(table: Table) -> str:
    kinds = ((column.name, next(name for kind, name in _TYPES if isinstance(column.type, kind))) for column in table.c)
    return ", ".join(f'CAST(NULL AS {kind}) AS "{name}"' for name, kind in kinds)


_EVERYTHING: Final = {*jobs.metadata.tables, *SQL}


def named(statement: str) -> set[str]:
    """Tables and views that it reads from."""
    return set(re.findall(r"\b(?:FROM|JOIN)\s+(\w+)", statement)) & _EVERYTHING
