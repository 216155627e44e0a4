"""What must hold of a world that has settled, whatever was done to it."""

from collections import Counter

import msgspec
from sqlalchemy import select

from statemachine.states import TERMINAL
from statemachine.store.codec import digest
from statemachine.store.schema import dead_letters, job_leases, job_payloads, jobs
from statemachine.table import REPLAY
from tests.world.house import World

ONCE_A_RUN = {"job_queued", "media_uploaded", "outcome_decided", "job_completed", "job_failed", "job_cancelled"}


def check(world: World, *, pushes: int) -> None:
    """Raise AssertionError for the first invariant that does not hold."""
    store = world.store
    with world.undisturbed():
        with store.read() as connection:
            ids = list(connection.scalars(select(jobs.c.id)))
            letters = len(connection.execute(select(dead_letters.c.id)).all())
            leases = connection.execute(select(job_leases.c.job_id)).all()
            payloads = set(connection.scalars(select(job_payloads.c.job_id)))
        assert world.redis.empty(), "a payload was left in a list"
        assert len(ids) + letters >= pushes, f"lost: {pushes} pushes, {len(ids)} jobs, {letters} dead letters"
        assert len(ids) <= pushes, "a payload became two jobs"
        assert payloads == set(ids), "a job without its payload"
        assert not leases, f"leases of finished jobs: {leases}"
        for job_id in ids:
            _check_history(world, job_id)
            _check_told(world, job_id)
            _check_assets(world, job_id)
        assert [r for r in store.rebuild() if r.changed] == [], "the projections differ from the history"
        for key, contents in world.bucket.contents.items():
            assert len(contents) == 1, f"{len(contents)} contents were put under {key}"
        assert list(world.processes.spool.jobs()) == [], "the spool keeps a finished job's files"


def _check_history(world: World, job_id: str) -> None:
    history = world.store.history(job_id)
    previous, state = "", None
    for version, row in enumerate(history, start=1):
        assert row.version == version, f"version {row.version} where {version} was due"
        assert row.digest == digest(previous, row), f"the digest of version {version} does not verify"
        assert row.from_state == state, f"{row.kind} left {row.from_state}, the job was in {state}"
        assert row.to_state in REPLAY.get((row.kind, row.from_state or row.to_state), ()), f"illegal {row.kind}"
        previous, state = row.digest, row.to_state
    job = world.store.load(job_id)
    assert job.state in TERMINAL, f"it ended in {job.state}"
    counts = Counter((row.run, row.kind) for row in history)
    for (run, kind), count in counts.items():
        assert count == 1 or kind not in ONCE_A_RUN, f"{kind} happened {count} times in run {run}"
    uploads = Counter(
        (row.run, msgspec.json.decode(row.data).get("index", 0)) for row in history if row.kind == "asset_uploaded"
    )
    assert all(count == 1 for count in uploads.values()), f"an upload is told twice: {uploads}"
    assert all(attempt.ended_at is not None for attempt in job.attempts), "an attempt never ended"


def _check_told(world: World, job_id: str) -> None:
    job = world.store.load(job_id)
    told = [post for post in world.receiver.accepted if post.told["job_id"] == job_id]
    statuses = [post.told["status"] for post in told]
    outcomes = {(post.id, post.body) for post in told if post.told["status"] != "processing"}
    assert len(outcomes) == 1, f"{len(outcomes)} outcomes were told: {statuses}"
    expected = "completed" if job.state == "completed" else "failed"
    assert {status for status in statuses if status != "processing"} == {expected}, statuses
    assert statuses.index(expected) == len(statuses) - statuses.count(expected), f"told out of order: {statuses}"
    assert statuses.count("processing") <= 2, statuses  # sent, crashed, sent again: never a third time


def _check_assets(world: World, job_id: str) -> None:
    job = world.store.load(job_id)
    if job.state != "completed":
        return
    assets = job.current_assets
    assert len(assets) == job.request["num_images"], f"{len(assets)} assets"
    for asset in assets:
        assert world.bucket.contents.get(f"{asset.bucket}/{asset.key}") == {asset.digest}, (
            f"asset {asset.index} differs"
        )
