"""The plan of faults, and the campaign that carries it out."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from random import Random
from typing import Final

from sqlalchemy import func, select

from statemachine.errors import StoreAway
from statemachine.store.schema import job_events, jobs, workers
from tests.campaigns.chaos.faults import Hit, Kind
from tests.campaigns.chaos.load import Load
from tests.campaigns.chaos.town import House, Town
from tests.campaigns.service import CampaignFailed, wait_until

OVERLAPS: Final = 0.35
"""The share of faults that begin while the one before is there."""
AT_ONCE: Final = 2
LONGEST: Final = 2.0
GAP_SECONDS: Final = (0.5, 2.5)
LATE_SECONDS: Final = 8.0
"""A fault whose victim is not there for so long is left out."""
START_SECONDS: Final = 90.0
QUIET_SECONDS: Final = 60.0
"""With no fault any more, and a job due, something happens within this."""
CALM_SECONDS: Final = 2400.0
"""A callback that has failed five times waits for half an hour."""
SWEEP_SECONDS: Final = 120.0
"""Workers sweep their spool each minute; somebody may have died between the end of a job and its cleaning."""
LOOK_SECONDS: Final = 0.05


@dataclass(frozen=True)
class Planned:
    """One fault to come: so many seconds after the one before began, in that house, for so long."""

    after: float
    kind: Kind
    house: int
    seconds: float
    die: float


@dataclass
class Happening:
    """One fault that was."""

    kind: Kind
    house: House
    pids: tuple[int, ...]
    begun_at: datetime
    ended_at: datetime | None = None


@dataclass(frozen=True)
class _Ongoing:
    until: float
    happening: Happening
    hit: Hit


@dataclass
class Story:
    """All that a campaign saw."""

    happenings: list[Happening] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    loaded_seconds: float = 0.0
    faults_ended_at: datetime | None = None
    settled_after: float | None = None


def plan(dice: Random, kinds: Sequence[Kind], houses: Sequence[int]) -> Iterator[Planned]:
    """Without end: every kind in turn, in ever new orders, some over each other, in any of `houses`."""
    after = 1.0
    while True:
        for kind in dice.sample(kinds, len(kinds)):
            seconds = dice.uniform(*kind.seconds)
            yield Planned(after, kind, dice.choice(houses), seconds, dice.random())
            after = seconds * dice.random() if dice.random() < OVERLAPS else seconds + dice.uniform(*GAP_SECONDS)


class Campaign:
    """Load and faults together, for so long and until all is pushed and each kind of fault was there; then calm.

    Where the load takes longer than twice the time, what is left of it comes in the calm.
    """

    def __init__(
        self,
        town: Town,
        loads: Sequence[Load],
        kinds: Sequence[Kind],
        dice: Random,
        *,
        seconds: float,
        tell: Callable[[str], None],
    ) -> None:
        self.story = Story()
        self._town = town
        self._loads = loads
        self._kinds = len(kinds)
        # A house is hit as often as it has workers: with one of its own, and torch to import, it would do nothing else.
        houses = [number for number, house in enumerate(town.houses) for _ in range(house.workers)]
        self._plan = plan(dice, kinds, houses)
        self._seconds = seconds
        self._tell = tell

    def run(self) -> Story:
        """All of it, but for the verdict. Call from the main thread. Violations are collected, not raised."""
        story = self.story
        try:
            for house in self._town.houses:
                house.keep()
            self._warm_up()
            begun = time.monotonic()
            for load in self._loads:
                load.start()
            self._break_things()
            story.loaded_seconds = time.monotonic() - begun
            story.faults_ended_at = datetime.now(UTC)
            for load in self._loads:
                load.calm()
            self._settle()
        except CampaignFailed as failure:
            story.violations.append(str(failure))
        finally:
            for load in self._loads:
                load.stop()
        return story

    def _warm_up(self) -> None:
        for house in self._town.houses:
            if wait_until(partial(_is_up, house), START_SECONDS) is None:
                raise CampaignFailed(f"{house.name}: its workers are not up within {START_SECONDS:g} s")

    def _break_things(self) -> None:
        begun = time.monotonic()
        ongoing: list[_Ongoing] = []
        due = next(self._plan)
        due_at = due.after
        while True:
            now = time.monotonic() - begun
            for one in [one for one in ongoing if one.until <= now]:
                one.hit.end()
                one.happening.ended_at = datetime.now(UTC)
                ongoing.remove(one)
            pushed = all(load.over for load in self._loads) or now >= LONGEST * self._seconds
            enough = now >= self._seconds and pushed and self._every_kind_was_there()
            if enough and not ongoing:
                return
            free = len(ongoing) < AT_ONCE and all(one.happening.kind.thing != due.kind.thing for one in ongoing)
            if not enough and now >= due_at and free:
                house = self._town.houses[due.house]
                began, hit = datetime.now(UTC), due.kind.begin(self._town, house, due.die)
                if hit is not None:
                    happening = Happening(due.kind, house, hit.pids, began)
                    self.story.happenings.append(happening)
                    self._tell(f"{now:6.1f} s  {house.name}: {due.kind.name}, {due.seconds:.1f} s")
                    ongoing.append(_Ongoing(time.monotonic() - begun + due.seconds, happening, hit))
                elif now > due_at + LATE_SECONDS:
                    self.story.left_out.append(due.kind.name)
                if hit is not None or now > due_at + LATE_SECONDS:
                    due = next(self._plan)
                    due_at = now + due.after
            self._keep()
            time.sleep(LOOK_SECONDS)

    def _every_kind_was_there(self) -> bool:
        return len(self.story.happenings) + len(self.story.left_out) >= self._kinds

    def _keep(self) -> None:
        for house in self._town.houses:
            house.keep()

    def _settle(self) -> None:
        """Wait for the end of every job, as long as anything happens or is to happen."""
        begun = since = time.monotonic()
        seen = -1
        while True:
            self._keep()
            left, last, waiting = self._look()
            now = time.monotonic()
            pushed = all(load.over for load in self._loads)
            if pushed and left == 0 and not any(house.service.lists() for house in self._town.houses):
                self.story.settled_after = now - begun
                break
            if last != seen or waiting:
                seen, since = last, now
            if now - begun > CALM_SECONDS:
                raise CampaignFailed(f"{left} jobs have not ended {CALM_SECONDS:g} s after the last fault")
            if now - since > QUIET_SECONDS:
                raise CampaignFailed(f"{left} jobs have not ended, and nothing happened for {QUIET_SECONDS:g} s")
            time.sleep(0.2)
        for house in self._town.houses:
            wait_until(partial(_swept, house), SWEEP_SECONDS)

    def _look(self) -> tuple[int, int, bool]:
        """Jobs that have not ended, the last positions, and whether those jobs all wait for their next try."""
        left, last, late = 0, 0, 0
        for house, load in zip(self._town.houses, self._loads, strict=True):
            store = house.service.store
            with store.read() as connection:
                ended = connection.scalar(select(func.count()).where(jobs.c.finished_at.is_not(None))) or 0
                waiting = connection.scalar(
                    select(func.count()).where(jobs.c.finished_at.is_(None), jobs.c.resume_at > store.now())
                )
            left += len(load.orders) - ended
            late += len(load.orders) - ended - int(waiting or 0)
            last += self._last(house)
        return left, last, left > 0 and late == 0

    def _last(self, house: House) -> int:
        """The last position of its history; 0 while nobody can say."""
        with suppress(StoreAway), house.service.store.read() as connection:
            return int(connection.scalar(select(func.max(job_events.c.position))) or 0)
        return 0


def _swept(house: House) -> bool:
    return not house.service.spooled()


def _is_up(house: House) -> bool:
    with house.service.store.read() as connection:
        engines = connection.scalar(select(func.count()).where(workers.c.engine_pid.is_not(None)))
    return int(engines or 0) >= house.workers
