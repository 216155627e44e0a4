"""Histories that earlier versions wrote mean today what they meant then.

Each line of `tests/histories/` is one job as it stood in a database of that time: its events, and what its projections
said of it. They are never written anew; a version that is released adds a file.
"""

import json
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import pytest
from sqlalchemy import Boolean, Table, insert

from statemachine.events import KINDS
from statemachine.job import Stored
from statemachine.machine import judge
from statemachine.store import EventStore
from statemachine.store.codec import digest, replay, stored
from statemachine.store.projections import rows_of
from statemachine.store.schema import Row, Utc, job_assets, job_attempts, job_events, jobs

FOLDER: Final = Path(__file__).parent.parent / "histories"
SAID: Final = {table.name: table for table in (jobs, job_attempts, job_assets)}


def as_read(table: Table, row: Row) -> Row:
    """A row as SQLite keeps it, as SQLAlchemy would give it."""
    plain = dict(row)
    for name, value in row.items():
        if value is not None and isinstance(table.c[name].type, Utc):
            plain[name] = datetime.fromisoformat(value).replace(tzinfo=UTC)
        elif value is not None and isinstance(table.c[name].type, Boolean):
            plain[name] = bool(value)
    return plain


HISTORIES: Final[dict[str, dict[str, Any]]] = {
    f"{file.stem}-{number}": json.loads(line)
    for file in sorted(FOLDER.glob("*.jsonl"))
    for number, line in enumerate(file.read_text("utf-8").splitlines(), 1)
}


def rows(history: dict[str, Any]) -> list[Row]:
    return [as_read(job_events, row) for row in history["events"]]


def read(history: dict[str, Any]) -> list[Stored]:
    return [stored(SimpleNamespace(**row)) for row in rows(history)]


@pytest.mark.parametrize("history", HISTORIES.values(), ids=HISTORIES)
class TestAnEarlierVersion:
    def test_wrote_a_chain_that_verifies_and_that_would_still_be_allowed(self, history: dict[str, Any]) -> None:
        found = read(history)
        assert [row.version for row in found] == list(range(1, len(found) + 1))
        assert [row.digest for row in found] == [
            digest(before, row) for before, row in zip(["", *(row.digest for row in found)], found, strict=False)
        ]
        for before, row in pairwise(found):
            judge(row.job_id, row.kind, before.to_state, row.to_state)

    def test_said_of_the_job_what_is_said_of_it_now(self, history: dict[str, Any]) -> None:
        said_then = {name: [as_read(SAID[name], row) for row in found] for name, found in history["said"].items()}
        job = replay(history["events"][0]["job_id"], read(history))
        said_now = {table.name: rows for table, rows in rows_of(job)}
        for name, then in said_then.items():
            known = set(then[0]) if then else set()
            now = [{key: value for key, value in row.items() if key in known} for row in said_now[name]]
            assert sorted(map(str, (sorted(row.items()) for row in now))) == sorted(
                map(str, (sorted(row.items()) for row in then))
            )

    def test_s_job_is_rebuilt_and_goes_on_beside_todays(self, history: dict[str, Any], store: EventStore) -> None:
        job_id = history["events"][0]["job_id"]
        with store.write() as connection:
            connection.execute(insert(job_events), rows(history))
        assert [one.job_id for one in store.rebuild()] == [job_id]
        assert [one.changed for one in store.rebuild()] == [()]
        assert store.load(job_id) == replay(job_id, read(history))


LATER: Final = {"content_erased", "files_removed"}
"""Kinds that are younger than the newest of the histories."""


def test_the_histories_hold_every_kind_that_there_was() -> None:
    found = {row["kind"] for history in HISTORIES.values() for row in history["events"]}
    assert KINDS.keys() - found <= LATER
