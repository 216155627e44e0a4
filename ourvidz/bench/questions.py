"""What people ask of a year of jobs, as the commands ask it, each time about something else."""

import random
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final

import msgspec
from sqlalchemy import select

from ourvidz.bench.dice import dice_of, uuid4_of
from ourvidz.bench.prompts import prompt
from ourvidz.bench.timing import Times, measure
from ourvidz.inspect.document import document
from ourvidz.inspect.reading import situation_of
from ourvidz.reports.catalogue import ask as ask_for
from ourvidz.reports.names import Report
from ourvidz.reports.span import Span
from ourvidz.searching import search
from statemachine.store import EventStore
from statemachine.store.reading import Filter, counts, list_jobs
from statemachine.store.rolling import DAY, midnight
from statemachine.store.schema import jobs

WINDOW: Final = timedelta(days=30)
"""As far back as `jobs search` looks where nobody says how far."""


class Question(msgspec.Struct, frozen=True):
    """`ask` is timed, about what `about` has drawn. `share` of as many times as what is asked most."""

    name: str
    share: float
    about: Callable[[EventStore, random.Random], Any]
    ask: Callable[[EventStore, Any], object]


def ask(store: EventStore, question: Question, *, samples: int, seed: int) -> Times:
    """Time it; the same seed asks about the same things."""
    dice = dice_of(f"{question.name} {seed}")
    drawn = [question.about(store, dice) for _ in range(max(1, round(samples * question.share)))]
    return measure(store.engine, [partial(question.ask, store, thing) for thing in drawn])


def _any_job(store: EventStore, dice: random.Random) -> str:
    least = uuid4_of(dice.getrandbits(128))
    with store.read() as connection:
        found = connection.scalar(select(jobs.c.id).where(jobs.c.id >= least).order_by(jobs.c.id).limit(1))
        return str(found or connection.scalar(select(jobs.c.id).order_by(jobs.c.id).limit(1)))


def _inspect(store: EventStore, job_id: str) -> object:
    return document(situation_of(store, job_id))


def _everything(_store: EventStore, _dice: random.Random) -> Filter:
    return Filter()


def _of_a_user(store: EventStore, dice: random.Random) -> Filter:
    with store.read() as connection:
        user_id = connection.scalar(select(jobs.c.user_id).where(jobs.c.id == _any_job(store, dice)))
    return Filter(user_id=user_id)


def _failed(store: EventStore, _dice: random.Random) -> Filter:
    return Filter(states=["failed"], since=store.now() - WINDOW)


def _out_of_memory(store: EventStore, _dice: random.Random) -> Filter:
    return Filter(error="vram", since=store.now() - WINDOW)


def _list(store: EventStore, wanted: Filter) -> object:
    with store.read() as connection:
        return list_jobs(connection, wanted), counts(connection)


def _common_word(_store: EventStore, dice: random.Random) -> str:
    return prompt(dice).split()[1]


def _rare_word(_store: EventStore, dice: random.Random) -> str:
    return prompt(dice).split()[-2]


def _search(store: EventStore, word: str) -> object:
    with store.read() as connection:
        return search(connection, Filter(since=store.now() - WINDOW, limit=20), [word])


def _today(store: EventStore, _dice: random.Random) -> datetime:
    return store.now()


def _report(report: Report, days: int, store: EventStore, now: datetime) -> object:
    with store.read() as connection:
        return ask_for(connection, report, Span(midnight(now) - DAY * days, now))


FINDING: Final = (
    Question("jobs inspect", 1.0, _any_job, _inspect),
    Question("jobs list", 0.1, _everything, _list),
    Question("jobs list --user", 0.1, _of_a_user, _list),
    Question("jobs list --state failed --since 30d", 0.1, _failed, _list),
    Question("jobs list --error vram --since 30d", 0.1, _out_of_memory, _list),
    Question("jobs search, a common word", 0.05, _common_word, _search),
    Question("jobs search, a rare word", 0.05, _rare_word, _search),
)
"""Reading a job, and finding one."""

REPORTS: Final = tuple(
    Question(f"report {report} --since {days}d", 0.05, _today, partial(_report, report, days))
    for days in (30, 365)
    for report in Report
)
"""Every report as it is without `--by`, from rollups that are up to date."""
