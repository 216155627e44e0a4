"""What must hold of a world that has settled, whatever was done to it."""

from sqlalchemy import select

from statemachine.store.schema import dead_letters, job_leases, job_payloads, jobs
from tests.invariants import check_history, check_projections, check_told
from tests.world.house import World


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
            check_history(store, job_id)
            _check_told(world, job_id)
            _check_assets(world, job_id)
        check_projections(store)
        for key, contents in world.bucket.contents.items():
            assert len(contents) == 1, f"{len(contents)} contents were put under {key}"
        assert list(world.processes.spool.jobs()) == [], "the spool keeps a finished job's files"


def _check_told(world: World, job_id: str) -> None:
    told = [
        (post.told["status"], post.id, post.body) for post in world.receiver.accepted if post.told["job_id"] == job_id
    ]
    check_told(world.store.load(job_id), told, crashes=1)  # sent, crashed, sent again: never a third time


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
