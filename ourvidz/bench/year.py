"""The plan of a year: a daily and a weekly rhythm, growth, a few users who ask for much, and a fleet that keeps up."""

import random
from bisect import bisect
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import accumulate
from typing import Final

from ourvidz.bench.dice import Lottery, dice_of, job_id_of, uuid4_of, zipf
from ourvidz.bench.errands import Errand
from ourvidz.bench.fleet import Fleet
from statemachine.expectations import expected
from workers.presets import PRESETS

DAYS: Final = 365
SETTLED: Final = timedelta(hours=36)
"""Before the year's end nothing comes in any more, so that the last callback's schedule is over by then."""
USERS_PER_JOB: Final = 1 / 200

_TYPES: Final = Lottery(
    [
        ("sdxl_image_fast", 34.0),
        ("sdxl_image_high", 24.0),
        ("image_fast", 9.0),
        ("image_high", 6.0),
        ("video_fast", 9.0),
        ("video_high", 6.0),
        ("image7b_fast_enhanced", 4.0),
        ("image7b_high_enhanced", 3.0),
        ("video7b_fast_enhanced", 3.0),
        ("video7b_high_enhanced", 2.0),
    ]
)
_IMAGES: Final = Lottery([(1, 55.0), (3, 30.0), (6, 15.0)])
_OF_THE_DAY: Final = (
    0.7, 0.5, 0.4, 0.3, 0.3, 0.35, 0.5, 0.7, 0.9, 1.0, 1.1, 1.15,
    1.2, 1.2, 1.2, 1.25, 1.3, 1.4, 1.6, 1.8, 1.9, 1.8, 1.4, 1.0,
)  # fmt: skip
"""How busy each hour is, in UTC."""
_OF_THE_WEEK: Final = (0.9, 0.9, 0.95, 1.0, 1.1, 1.3, 1.2)
"""How busy each day is, from Monday on."""
_GROWTH: Final = 1.0
"""At its end the year is busier than at its beginning by so much of it."""


def plan_year(jobs: int, *, seed: int, until: datetime, days: int = DAYS) -> Iterator[Errand]:
    """`jobs` errands of `days` in the order of their coming, the same for the same arguments. They end at `until`."""
    whole = f"{seed} of {jobs}" if days == DAYS else f"{seed} of {jobs} in {days} days"
    dice = dice_of(f"year {whole}")
    users = Users(max(10, round(jobs * USERS_PER_JOB)), whole)
    fleet = Fleet(whole, mean_load=_mean_seconds() * jobs / (days * 86400))
    for number, at in enumerate(_times(jobs, dice, until, timedelta(days=days))):
        job_type, images = wish(dice)
        key = f"{whole}: {number}"
        yield Errand(
            key=key,
            job_id=job_id_of(key),
            at=at,
            job_type=job_type,
            images=images,
            user_id=users.draw(dice),
            booking=fleet.book(job_type, at, seconds_of(job_type, images, dice), dice),
        )


def plan_waiting(jobs: int, users: int, *, key: str, until: datetime) -> Iterator[Errand]:
    """`jobs` errands of `users` that came in the last hours before `until` and wait, each user's in turn."""
    dice = dice_of(key)
    who = Users(users, key)
    turns: dict[str, int] = {}
    for number in range(jobs):
        job_type, images = wish(dice)
        user_id = who.draw(dice)
        own = f"{key}: {number}"
        turn = turns.get(user_id, 0)
        turns[user_id] = turn + 1
        yield Errand(
            key=own,
            job_id=job_id_of(own),
            at=until - timedelta(seconds=(jobs - number) * 0.25),
            job_type=job_type,
            images=images,
            user_id=user_id,
            turn=turn,
        )


class Users:
    """Some who ask for much and many who ask for little."""

    def __init__(self, count: int, key: str) -> None:
        dice = dice_of(f"users {key}")
        names = [uuid4_of(dice.getrandbits(128)) for _ in range(count)]
        self._lottery = Lottery(list(zip(names, zipf(count, 1.05), strict=True)))

    def draw(self, dice: random.Random) -> str:
        """One of them."""
        return self._lottery.draw(dice)


def wish(dice: random.Random) -> tuple[str, int]:
    """A job type, and how many assets are asked for."""
    job_type = _TYPES.draw(dice)
    return job_type, _IMAGES.draw(dice) if len(PRESETS[job_type].counts) > 1 else 1


def seconds_of(job_type: str, images: int, dice: random.Random) -> float:
    """What the device takes: mostly as the specification has it, now and then half as long again."""
    norm = expected(job_type, images)
    assert norm is not None  # the specification knows every type and number
    most = norm.most if norm.most is not None else norm.least * 1.25
    return round(dice.uniform(norm.least, most) * dice.lognormvariate(0.0, 0.15), 3)


def _mean_seconds() -> float:
    dice = dice_of("mean")
    drawn = [seconds_of(*wish(dice), dice) for _ in range(1000)]
    return sum(drawn) / len(drawn)


def _times(jobs: int, dice: random.Random, until: datetime, span: timedelta) -> Iterator[datetime]:
    """When they come, in order: one each at an equal share of all that the year's hours weigh."""
    begin = until - span
    hours = (span - SETTLED) // timedelta(hours=1)
    weights = []
    for hour in range(hours):
        at = begin + timedelta(hours=hour)
        weights.append(_OF_THE_DAY[at.hour] * _OF_THE_WEEK[at.weekday()] * (1.0 + _GROWTH * hour / hours))
    reached = list(accumulate(weights))
    for number in range(jobs):
        share = (number + dice.random()) / jobs * reached[-1]
        hour = bisect(reached, share, hi=hours - 1)
        within = (share - (reached[hour] - weights[hour])) / weights[hour]
        yield begin + timedelta(hours=hour, microseconds=int(within * 3_600_000_000))
