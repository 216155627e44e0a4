"""The verdict on a service that has settled: every invariant, every job, every file."""

from collections.abc import Callable, Iterable
from typing import Any

from sqlalchemy import select

from statemachine.decisions import CRASH_BUDGET
from statemachine.events import Interrupted
from statemachine.job import Job, Stored
from statemachine.store.schema import dead_letters, job_leases, job_payloads, jobs
from tests.campaigns.orders import REFUSED, Order
from tests.campaigns.service import Service, Told
from tests.invariants import check_history, check_projections, check_told, check_verified
from workers.spool import sha256


class Judge:
    """Collects one sentence for each invariant that does not hold."""

    def __init__(self) -> None:
        self.found: list[str] = []
        self._twins: dict[tuple[str, int | None], tuple[str, list[str]]] = {}

    def that(self, what: str, check: Callable[..., None], *arguments: Any, **more: Any) -> None:
        """Whatever it is, `check` does not raise AssertionError."""
        try:
            check(*arguments, **more)
        except AssertionError as error:
            self.found.append(f"{what}: {error}")

    def at_rest(self, service: Service, known: set[str]) -> None:
        """Nothing is left anywhere: every job's payload is kept, and nobody holds or waits for anything."""
        with service.store.read() as connection:
            letters = connection.execute(select(dead_letters.c.id)).all()
            leases = connection.execute(select(job_leases.c.job_id, job_leases.c.worker_id)).all()
            payloads = set(connection.scalars(select(job_payloads.c.job_id)))
        self.that("payloads", same, known, payloads)
        self.that("dead letters", none, letters)
        self.that("leases", none, leases)
        self.that("lists", none, service.lists())
        self.that("spool", none, service.spooled())

    def twin(self, job: Job, order: Order) -> None:
        """A completed job has the bytes of those before it that were asked for the same."""
        pictures = [asset.digest for asset in job.current_assets]
        first = self._twins.setdefault((order.template, job.seed), (job.id, pictures))
        self.that(f"job {job.id} ({order.template}) beside its twin {first[0]}", same, first[1], pictures)


def violations(service: Service, orders: Iterable[Order], told: Iterable[Told]) -> list[str]:
    """One sentence for each invariant that does not hold."""
    judge = Judge()
    store, by_id, heard = service.store, {order.job_id: order for order in orders}, list(told)
    with store.read() as connection:
        known = set(connection.scalars(select(jobs.c.id)))
    judge.that("jobs", same, set(by_id), known)
    judge.at_rest(service, known)
    judge.that("receiver", same, {one.job_id for one in heard}, known)
    files: dict[str, str] = {}
    for job_id in sorted(known & set(by_id)):
        job, order = store.load(job_id), by_id[job_id]
        history = store.history(job_id)
        crashes = sum(row.kind == "interrupted" for row in history)
        arrived = [(one.status, one.id, one.body) for one in heard if one.job_id == job_id]
        judge.that(f"job {job_id}", check_history, store, job_id)
        judge.that(f"job {job_id}", check_told, job, arrived, crashes=crashes)
        judge.that(f"job {job_id} ({order.template})", ended_well, job, history, order)
        files |= {f"{asset.bucket}/{asset.key}": asset.digest for asset in job.current_assets if asset.key}
        if job.state == "completed":
            judge.twin(job, order)
    stored = {
        str(path.relative_to(service.storage)): sha256(path.read_bytes())
        for path in service.storage.rglob("*")
        if path.is_file()
    }
    judge.that("stored files", same, files, stored)
    judge.that("rebuild", check_projections, store)
    judge.that("verify", check_verified, store)
    return judge.found


def poisoned(history: Iterable[Stored]) -> bool:
    """It was in hand, begun or not, at as many deaths as make a job poison: it had to fail."""
    deaths = [(row.run, row.stage) for row in history if isinstance(row.event, Interrupted) and row.event.counts]
    return any(deaths.count(where) >= CRASH_BUDGET for where in deaths)


def ended_well(job: Job, history: Iterable[Stored], order: Order) -> None:
    """It completed whole, or failed as it had to. Raises AssertionError."""
    error = None if job.error is None else job.error.error_type
    if order.template == REFUSED:
        assert (job.state, error) == ("failed", "InvalidPayload"), f"{job.state}, {error}"
    elif error == "Poison":
        assert poisoned(history), "it failed as poison, and was not in hand so often"
    else:
        assert job.state == "completed", f"{job.state}: {job.error}"
        assert len(job.current_assets) == job.request["num_images"], f"{len(job.current_assets)} assets"


def same(wanted: Any, found: Any) -> None:
    """Equal, and where not, what differs. Raises AssertionError."""
    if isinstance(wanted, set):
        assert wanted == found, f"missing {sorted(wanted - found)[:4]}, too many {sorted(found - wanted)[:4]}"
    if isinstance(wanted, dict):
        differ = [key for key in wanted.keys() | found.keys() if wanted.get(key) != found.get(key)]
        assert not differ, f"{len(differ)} differ: {sorted(differ)[:4]}"
    assert wanted == found, f"wanted {wanted}, got {found}"


def none(found: Any) -> None:
    """Nothing. Raises AssertionError."""
    assert not found, f"left: {list(found)[:4]}"
