"""What is asked of many jobs is found by an index of its moment, whatever else there is to compare."""

import pytest
from sqlalchemy import text

from statemachine.store import EventStore
from statemachine.store.facts import FACTS

BIG = ("jobs", "job_attempts", "job_callbacks", "job_assets", "job_model_changes")


@pytest.mark.parametrize("fact", [fact.name for fact in FACTS])
@pytest.mark.parametrize("fresh_database", ["sqlite"], indirect=True)
def test_sqlite_without_statistics_counts_a_day_without_reading_all_others(store: EventStore, fact: str) -> None:
    """It has never been told to ANALYZE, and prefers whatever is compared by =: an index made for it, if need be."""
    asked = text(f"EXPLAIN QUERY PLAN SELECT * FROM daily_{fact} WHERE day >= '2026-10-23'")
    with store.read() as connection:
        plan = [row.detail for row in connection.execute(asked)]
    assert any("ix_jobs_finished_at" in step or "_at>?" in step or "_at (" in step for step in plan), plan
    wrong = ("AUTOMATIC", "ix_jobs_state", *(f"SCAN {table}" for table in BIG))
    assert [step for step in plan if any(sign in f"{step} " for sign in wrong)] == []
