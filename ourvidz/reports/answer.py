"""What a report answers: rows under columns, with what they are of."""

from dataclasses import dataclass, field
from typing import Any

from ourvidz.reports.columns import Column, Form
from ourvidz.reports.names import By, Report
from ourvidz.reports.span import Span

Row = dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """`about` says in a sentence what is counted. `keys` are the columns that name a row; `totals` is the last row."""

    report: Report
    by: By | None
    span: Span
    about: str
    keys: list[Column]
    values: list[Column]
    rows: list[Row]
    totals: Row | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def columns(self) -> list[Column]:
        """All, in their order."""
        return [*self.keys, *self.values]

    @property
    def empty(self) -> bool:
        """Nothing happened in the span."""
        counts = [column.name for column in self.values if column.form in (Form.COUNT, Form.SECONDS)]
        return not any(row[name] for row in self.rows for name in counts)
