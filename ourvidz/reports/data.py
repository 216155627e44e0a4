"""A report as data: raw numbers, with their units in the names."""

import csv
import io
from datetime import UTC
from typing import Any

from ourvidz.reports.answer import Answer, Row


def document(answer: Answer) -> dict[str, Any]:
    """For `--format json`."""
    return {
        "schema": 1,
        "report": answer.report,
        "by": answer.by and answer.by.value,
        "since": answer.span.begins.astimezone(UTC).isoformat(),
        "until": answer.span.ends.astimezone(UTC).isoformat(),
        "about": answer.about,
        "rows": [_plain(answer, row) for row in answer.rows],
        "totals": None if answer.totals is None else _plain(answer, answer.totals),
    }


def as_csv(answer: Answer) -> str:
    """For `--format csv`: a head and the rows, without the total, so that columns can be added up."""
    names = [column.name for column in answer.columns]
    text = io.StringIO()
    writer = csv.DictWriter(text, names, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(answer.rows)
    return text.getvalue()


def _plain(answer: Answer, row: Row) -> Row:
    return {column.name: row[column.name] for column in answer.columns if column.name in row}
