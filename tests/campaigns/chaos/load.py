"""Who makes work: a producer at an even pace, and an operator who cancels and starts again."""

import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from random import Random
from typing import Final

import redis
from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError

from ourvidz import acts
from statemachine.errors import StoreAway
from statemachine.store.schema import jobs
from tests.campaigns.orders import BUILT, Built, Order, Producer
from tests.campaigns.service import Service
from workers.lists import connect
from workers.presets import PRESETS

TWICE: Final = 0.03
"""The share of payloads that the producer pushes twice though the first push was acknowledged."""
CANCELLED: Final = 0.03
RETRIED: Final = 0.02
"""The shares of jobs on which the operator acts."""
USERS: Final = 7
LOOK_SECONDS: Final = 0.25

NULL: Final[Sequence[Built]] = (*BUILT, *((name, 1, {}) for name in PRESETS if not name.startswith("sdxl")))
"""Every type there is."""
_SMALL: Final = {"size": "512*512", "sample_steps": 6}
REAL: Final[Sequence[Built]] = (
    ("sdxl_image_fast", 1, _SMALL),
    ("sdxl_image_high", 3, _SMALL),
    ("sdxl_image_high", 1, {"size": "512*512", "sample_steps": 12}),
    ("image_fast", 1, {"sample_steps": 4}),
    ("video_fast", 1, {"sample_steps": 2}),
)
"""What tiny models draw within seconds."""


class Load:
    """Pushes `count` payloads over `seconds`, `in_flight` at most, and acts on a few of the jobs meanwhile.

    A push that was not acknowledged is repeated until it is.
    """

    def __init__(
        self,
        service: Service,
        url: str,
        built: Sequence[Built],
        dice: Random,
        *,
        count: int,
        seconds: float,
        in_flight: int,
    ) -> None:
        self.orders: list[Order] = []
        """Every one of them was pushed, and acknowledged at least once."""
        self.acknowledged = 0
        """Pushes that were answered; some payloads are pushed twice."""
        self.unanswered = 0
        self.acted: Counter[str] = Counter()
        self._service = service
        self._redis = connect(url, socket_timeout=5.0)
        self._dice = dice
        self._producer = Producer(
            Random(dice.random()), built, fixtures=built is NULL, pictures=service.pictures, users=USERS
        )
        self._count = count
        self._pace = count / seconds
        self._in_flight = in_flight
        self._ended = threading.Event()
        self._calm = threading.Event()
        self._feeder = threading.Thread(target=self._feed, daemon=True)
        self._operator = threading.Thread(target=self._operate, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._feeder.start()
        self._operator.start()

    @property
    def over(self) -> bool:
        """All is pushed."""
        return len(self.orders) >= self._count

    def calm(self) -> None:
        """Act no more; what is to be pushed still is."""
        self._calm.set()
        if self._operator.is_alive():
            self._operator.join()

    def stop(self) -> None:
        """Push no more. Safe where nothing was started."""
        self.calm()
        self._ended.set()
        if self._feeder.is_alive():
            self._feeder.join()
        self._redis.close()

    def _feed(self) -> None:
        begun = time.monotonic()
        while not self.over and not self._ended.wait(LOOK_SECONDS):
            due = min(self._count, int((time.monotonic() - begun) * self._pace) + 1)
            room = self._in_flight - self._live()
            for _ in range(min(room, due - len(self.orders))):
                order = self._producer.next()
                self._push(order)
                self.orders.append(order)
                if self._dice.random() < TWICE:
                    self._push(order)

    def _push(self, order: Order) -> None:
        while not self._ended.is_set():
            try:
                self._redis.lpush(order.queue, order.payload)
            except redis.exceptions.RedisError:
                self.unanswered += 1
                self._ended.wait(0.1)
            else:
                self.acknowledged += 1
                return

    def _live(self) -> int:
        """How many jobs are on their way; as many as are allowed where nobody can say."""
        try:
            with self._service.store.read() as connection:
                ended = connection.scalar(select(func.count()).where(jobs.c.finished_at.is_not(None)))
        except (StoreAway, SQLAlchemyError):
            return self._in_flight
        return len(self.orders) - int(ended or 0)

    def _operate(self) -> None:
        dice = Random(self._dice.random())
        pause = 1 / (self._pace * (CANCELLED + RETRIED))
        while not self._calm.wait(pause * dice.uniform(0.5, 1.5)):
            cancels = dice.random() < CANCELLED / (CANCELLED + RETRIED)
            act = (acts.cancel if cancels else acts.retry)("operator", "changed her mind")
            with suppress(StoreAway):  # then not this one
                for done in acts.perform(self._service.store, act, self._some(dice, ended=not cancels)):
                    self.acted[act.name] += done.done

    def _some(self, dice: Random, *, ended: bool) -> list[str]:
        """One job that has ended, or one that has not; none where there is none."""
        which = jobs.c.finished_at.is_not(None) if ended else jobs.c.outcome.is_(None) & jobs.c.finished_at.is_(None)
        with self._service.store.read() as connection:
            found = list(connection.scalars(select(jobs.c.id).where(which)))
        return [dice.choice(found)] if found else []
