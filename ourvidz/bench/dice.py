"""Seeded dice: the same key draws the same year, job by job, in any process and any order."""

import random
from bisect import bisect
from collections.abc import Sequence
from itertools import accumulate
from typing import Generic, TypeVar
from uuid import UUID

T = TypeVar("T")


def dice_of(key: str) -> random.Random:
    """Dice of whoever has this key."""
    return random.Random(key)  # noqa: S311  # nothing secret is drawn


class Lottery(Generic[T]):
    """Draws one of several by weight."""

    def __init__(self, tickets: Sequence[tuple[T, float]]) -> None:
        self._prizes = [prize for prize, _ in tickets]
        self._reached = list(accumulate(weight for _, weight in tickets))

    def draw(self, dice: random.Random) -> T:
        """One of them."""
        return self._prizes[bisect(self._reached, dice.random() * self._reached[-1], hi=len(self._prizes) - 1)]


def zipf(count: int, exponent: float) -> list[float]:
    """Weights of the first, the second, … of `count`: few have much, many have little."""
    return [1.0 / rank**exponent for rank in range(1, count + 1)]


def job_id_of(key: str) -> str:
    """The id of the job with this key, known without drawing anything else of it."""
    return uuid4_of(dice_of(f"id of {key}").getrandbits(128))


def uuid4_of(bits: int) -> str:
    """A UUID of version 4 out of 128 drawn bits."""
    return str(UUID(int=bits, version=4))
