"""Every report, by its name."""

from collections.abc import Callable
from typing import Final

from sqlalchemy import Connection

from ourvidz.reports.answer import Answer
from ourvidz.reports.asking import Asking
from ourvidz.reports.latency import latency
from ourvidz.reports.machines import callbacks, models, workers
from ourvidz.reports.names import By, Report
from ourvidz.reports.span import Span
from ourvidz.reports.trouble import failures, retries
from ourvidz.reports.work import cost, throughput, users

REPORTS: Final[dict[Report, Callable[[Asking], Answer]]] = {
    Report.THROUGHPUT: throughput,
    Report.LATENCY: latency,
    Report.FAILURES: failures,
    Report.RETRIES: retries,
    Report.WORKERS: workers,
    Report.USERS: users,
    Report.MODELS: models,
    Report.CALLBACKS: callbacks,
    Report.COST: cost,
}


def ask(connection: Connection, report: Report, span: Span, by: By | None = None) -> Answer:
    """What the report says. Raises Unanswerable, with how it could be asked."""
    return REPORTS[report](Asking(connection, report, by, span))
