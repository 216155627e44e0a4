"""Rows of our tables as Parquet, and back: the same values, with types that others understand."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
from sqlalchemy import BigInteger, Boolean, Float, Integer, LargeBinary, String, Table

from statemachine.store.schema import Row, Utc

_TYPES: Final = (
    (Utc, pa.timestamp("us", tz="UTC")),
    (BigInteger, pa.int64()),  # before Integer, which it is as well
    (Integer, pa.int32()),
    (Boolean, pa.bool_()),
    (Float, pa.float64()),
    (LargeBinary, pa.binary()),
    (String, pa.string()),
)


def schema_of(table: Table) -> Any:
    """The Arrow schema of a table. Raises TypeError for a column of a kind that no table of ours had so far."""
    return pa.schema(
        [pa.field(column.name, _type(column.type), nullable=bool(column.nullable)) for column in table.columns]
    )


def _type(kind: Any) -> Any:
    for known, arrow in _TYPES:
        if isinstance(kind, known):
            return arrow
    raise TypeError(f"no Parquet type is known for {kind!r}")


class TableWriter:
    """One table's file. Each call of `write` makes one row group, an empty one too, so that files go in step."""

    def __init__(self, table: Table, path: Path) -> None:
        self.table = table
        self.path = path
        self.rows = 0
        self._schema = schema_of(table)
        self._writer = pq.ParquetWriter(path, self._schema, compression="zstd")

    def write(self, rows: Sequence[Row]) -> None:
        """Add a row group."""
        self._writer.write_table(pa.Table.from_pylist(list(rows), schema=self._schema), row_group_size=len(rows) or 1)
        self.rows += len(rows)

    def close(self) -> None:
        """Write the file's end. Safe to call twice."""
        self._writer.close()


def read_group(path: Path, number: int) -> list[Row]:
    """The rows of one row group."""
    with pq.ParquetFile(path) as file:
        rows: list[Row] = file.read_row_group(number).to_pylist()
    return rows


def groups(path: Path) -> int:
    """How many row groups there are."""
    return int(pq.read_metadata(path).num_row_groups)


def select_rows(path: Path, column: str, first: str, last: str) -> list[Row]:
    """The rows where a column is between the two, both of them included."""
    rows: list[Row] = pq.read_table(path, filters=[(column, ">=", first), (column, "<=", last)]).to_pylist()
    return rows
