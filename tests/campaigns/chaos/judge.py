"""The verdict after chaos: what was acknowledged has ended, and nothing has two endings or two contents."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from sqlalchemy import func, select

from ourvidz.inspect.reading import situation_of
from statemachine.job import Job, Stored
from statemachine.store.schema import jobs, rejected_writes
from tests.campaigns.chaos.load import Load
from tests.campaigns.chaos.town import House, Town
from tests.campaigns.orders import Order
from tests.campaigns.service import Told
from tests.campaigns.verdict import Judge, ended_well, same
from tests.invariants import check_history, check_projections, check_verified
from workers.spool import sha256


@dataclass
class Counts:
    """What is to be at most 1, or 0, of anything."""

    acknowledged: int = 0
    ended: dict[str, int] = field(default_factory=dict)
    lost: int = 0
    outcomes: int = 0
    """Distinct endings that were told of one run of a job, at most."""
    contents: int = 0
    """Distinct bytes that were sent to one place of the storage, at most."""
    repeated_tellings: int = 0
    repeated_puts: int = 0
    late_writes: int = 0
    """Writes of those who had lost their lease: refused, and shown by `inspect`."""


def judged(town: Town, loads: Iterable[Load]) -> tuple[Counts, list[str]]:
    """The counts, and one sentence for each invariant that does not hold."""
    counts, found = Counts(), list[str]()
    contents: dict[str, set[str]] = defaultdict(set)
    for place, digest in town.puts:
        contents[place].add(digest)
    counts.contents = max((len(digests) for digests in contents.values()), default=0)
    counts.repeated_puts = len(town.puts) - len(contents)
    for place, digests in contents.items():
        if len(digests) > 1:
            found.append(f"{len(digests)} different contents were sent to {place}")
    told: dict[str, list[Told]] = defaultdict(list)
    for one in town.told:
        told[one.job_id].append(one)
    accepted = {one.job_id for one in town.receiver.heard if one.status != "processing"}
    for house, load in zip(town.houses, loads, strict=True):
        found += _house(house, load, town, told, accepted, counts)
    return counts, found


def _house(
    house: House, load: Load, town: Town, told: dict[str, list[Told]], accepted: set[str], counts: Counts
) -> list[str]:
    judge = Judge()  # its own: another engine draws other twins
    service, store = house.service, house.service.store
    by_id = {order.job_id: order for order in load.orders}
    with store.read() as connection:
        rows = connection.execute(select(jobs.c.id, jobs.c.state, jobs.c.finished_at)).all()
        of_each = select(rejected_writes.c.job_id, func.count()).group_by(rejected_writes.c.job_id)
        refused = {job_id: int(count) for job_id, count in connection.execute(of_each)}
    known, ended = {row.id for row in rows}, {row.id: row.state for row in rows if row.finished_at is not None}
    counts.acknowledged += len(by_id)
    counts.lost += len(set(by_id) - set(ended))
    for state in ended.values():
        counts.ended[state] = counts.ended.get(state, 0) + 1
    judge.that(f"{house.name}: jobs", same, set(by_id), known)
    judge.that(f"{house.name}: ended jobs", same, set(by_id), set(ended))
    judge.that(f"{house.name}: receiver", same, set(by_id), accepted & known)
    judge.at_rest(service, known)
    for job_id in sorted(set(ended) & set(by_id)):
        job, order = store.load(job_id), by_id[job_id]
        judge.that(f"job {job_id}", check_history, store, job_id)
        judge.that(f"job {job_id} ({order.template})", _ended, job, store.history(job_id), order)
        judge.that(f"job {job_id}", _told_once, told[job_id], counts)
        judge.that(f"job {job_id}", _stored, job, town)
        if job.state == "completed":
            judge.twin(job, order)
    counts.late_writes += sum(refused.values())
    for job_id, count in refused.items():
        judge.that(
            f"job {job_id}: refused writes that are shown", same, count, len(situation_of(store, job_id).rejected)
        )
    judge.that(f"{house.name}: rebuild", check_projections, store)
    judge.that(f"{house.name}: verify", check_verified, store)
    return judge.found


def _ended(job: Job, history: list[Stored], order: Order) -> None:
    if job.state == "cancelled":
        assert job.cancel_by is not None, "it ended as cancelled, and nobody had asked for it"
    else:
        ended_well(job, history, order)


def _told_once(told: list[Told], counts: Counts) -> None:
    """However often a run's outcome was told, it was in the same words under the same id."""
    runs: dict[str, list[Told]] = defaultdict(list)
    for one in told:
        if one.status != "processing":
            runs[one.id.rpartition(":")[0]].append(one)
    for run, tellings in runs.items():
        outcomes = {(one.id, one.body) for one in tellings}
        counts.outcomes = max(counts.outcomes, len(outcomes))
        counts.repeated_tellings += len(tellings) - 1
        assert len(outcomes) == 1, f"{len(outcomes)} outcomes of {run} were told: {[one.id for one in tellings]}"


def _stored(job: Job, town: Town) -> None:
    for asset in job.assets:
        if asset.key is not None:
            place = f"{asset.bucket}/{asset.key}"
            assert place in town.storage.objects, f"{place} is not in the storage"
            found = sha256(town.storage.objects[place][0])
            assert found == asset.digest, f"{place} holds {found}, the history says {asset.digest}"
