"""`bench history`: a year in a database, and what is measured on it."""

from collections.abc import Callable
from datetime import UTC, datetime
from itertools import chain
from time import monotonic

import msgspec

from ourvidz.bench.claiming import Claims, claims_beside
from ourvidz.bench.condition import CaughtUp, Condition, catch_up, condition
from ourvidz.bench.loading import Loaded, load
from ourvidz.bench.questions import FINDING, REPORTS, ask
from ourvidz.bench.timing import Times
from ourvidz.bench.year import plan_waiting, plan_year
from statemachine.store import EventStore


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be made, by how many processes, and how often what is asked most is asked. No samples: nothing is."""

    jobs: int
    days: int
    queued: int
    users: int
    seed: int
    processes: int
    samples: int


class Asked(msgspec.Struct, frozen=True):
    """One question and what its answers took."""

    question: str
    times: Times


class Made(msgspec.Struct, frozen=True, kw_only=True):
    """What was loaded, and what was made up for then; nothing where all was there."""

    loaded: Loaded
    seconds: float
    caught_up: CaughtUp | None


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it. `claims` where any were measured."""

    condition: Condition
    asked: list[Asked]
    claims: Claims | None


def make(store: EventStore, url: str, wanted: Wanted, *, tell: Callable[[int], None]) -> Made:
    """Load what is not there yet. `tell` hears how many jobs there are by now."""
    until = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    errands = chain(
        plan_year(wanted.jobs, seed=wanted.seed, until=until, days=wanted.days),
        plan_waiting(wanted.queued, wanted.users, key=f"waiting {wanted.seed} of {wanted.queued}", until=until),
    )
    begun = monotonic()
    loaded = Loaded()
    for part in load(url, errands, processes=wanted.processes):
        loaded += part
        tell(loaded.jobs + loaded.there)
    seconds = monotonic() - begun
    return Made(loaded=loaded, seconds=seconds, caught_up=catch_up(store) if loaded.jobs else None)


def measure(store: EventStore, url: str, wanted: Wanted, *, tell: Callable[[str], None]) -> Measured:
    """Verify a sample, ask the questions, claim. `tell` hears what is being done."""
    tell("verifying and rebuilding a sample")
    found = condition(store.engine, seed=wanted.seed)
    asked = list[Asked]()
    claims = None
    if wanted.samples:
        for question in (*FINDING, *REPORTS):
            tell(question.name)
            asked.append(Asked(question.name, ask(store, question, samples=wanted.samples, seed=wanted.seed)))
        tell("claims, here and in an empty database by turns")
        claims = claims_beside(url, rounds=wanted.samples, seed=wanted.seed)
    return Measured(condition=found, asked=asked, claims=claims)
