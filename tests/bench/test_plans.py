"""What is asked of many jobs is found by an index of its moment, whatever else there is to compare."""

from datetime import UTC, datetime

import pytest
from sqlalchemy import text

from ourvidz.bench.loading import load_chunk
from ourvidz.bench.year import plan_waiting
from statemachine.store import EventStore
from statemachine.store.facts import FACTS
from statemachine.store.reading import FAR, Ahead, ahead
from workers.presets import LUSTIFY, PRESETS

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


def test_of_what_is_before_a_job_no_more_is_counted_than_anybody_wants_to_know(store: EventStore) -> None:
    url = store.engine.url.render_as_string(hide_password=False)
    errands = [
        errand
        for errand in plan_waiting(3000, 1, key="one user", until=datetime(2026, 11, 22, tzinfo=UTC))
        if PRESETS[errand.job_type].model == LUSTIFY
    ]
    load_chunk(url, errands)
    with store.read() as connection:
        places = [ahead(connection, errands[number].job_id, store.now()) for number in (0, 1, FAR, FAR + 1, FAR + 9)]
    assert places == [Ahead(turn=turn) for turn in (0, 1, FAR, FAR + 1, FAR + 1)]
