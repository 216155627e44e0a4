"""Looking through jobs for what no index knows: the words of errors and of personal content."""

from collections.abc import Iterator
from typing import Final, NamedTuple

from msgspec.structs import replace
from sqlalchemy import Connection, select

from statemachine.store.reading import Filter, fitting
from statemachine.store.schema import job_payloads, jobs

AT_ONCE: Final = 500
"""Rows that are fetched together: who has found enough leaves the others where they are."""


class Texts(NamedTuple):
    """What one job says. `content` is JSON, and None where it was erased or never readable."""

    job_id: str
    error_type: str | None
    error_message: str | None
    content: str | None


def texts(connection: Connection, wanted: Filter) -> Iterator[Texts]:
    """The texts of every job that fits, the newest first, whatever `wanted.limit` is. Read as they are asked for.

    No database is asked to compare texts: SQLite knows upper and lower case of ASCII alone, PostgreSQL what its locale
    knows, and both of them would find the names of JSON's keys.
    """
    query = select(jobs.c.id, jobs.c.error_type, jobs.c.error_message, job_payloads.c.content)
    query = fitting(
        query.select_from(jobs.outerjoin(job_payloads, job_payloads.c.job_id == jobs.c.id)), replace(wanted, limit=None)
    )
    with connection.execution_options(yield_per=AT_ONCE).execute(query) as rows:
        for row in rows:
            yield Texts(*row)
