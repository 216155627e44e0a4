"""The kill campaign: SIGKILL for worker, engine, ingress and `up`, at random moments, under load.

    python -m tests.campaigns.kills --database postgresql --kills 20 --seed 7

Prints its seed first and its verdict last; exits with 1 where an invariant does not hold.
"""

import argparse
import secrets
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Final

import psutil
from sqlalchemy import and_, func, select

from statemachine.states import LIVE
from statemachine.store.schema import job_attempts, job_events, jobs, workers
from tests.campaigns.orders import BUILT, Order, Producer
from tests.campaigns.report import report
from tests.campaigns.service import CampaignFailed, Service, SlowReceiver, database_at, served, wait_until
from tests.campaigns.verdict import violations
from workers.models import make_tiny

VICTIMS: Final = ("worker", "engine", "ingress", "up")
LINGER_SECONDS: Final = 5.0
"""Longer than this nothing may outlive a killed `up`, and no engine its worker."""
SKIPPED: Final = frozenset({"fetching_refs", "enhancing"})
"""States that no job of the real engine's is ever in: its payloads have neither references nor a prompt to enhance."""
RECOVERY_SECONDS: Final = 90.0
QUIET_SECONDS: Final = 60.0
DRAIN_SECONDS: Final = 45.0
HURRIED_SECONDS: Final = 7.0
"""`up` kills after five what a second SIGTERM has not ended."""


@dataclass
class Kill:
    """One SIGKILL, and what was in flight directly before it."""

    victim: str
    wanted: str
    hit: bool
    at_work: bool
    at: datetime
    position: int
    in_flight: int
    states: Counter[str]
    workers: set[str]
    linger: float | None = None
    recovered_at: datetime | None = None

    @property
    def recovery(self) -> float | None:
        """Seconds until the service worked again; None when it was not seen to."""
        return None if self.recovered_at is None else (self.recovered_at - self.at).total_seconds()


@dataclass
class Stop:
    """One polite end of `up`."""

    what: str
    seconds: float
    code: int
    handed_back: int


@dataclass
class Story:
    """All that a campaign saw."""

    kills: list[Kill] = field(default_factory=list)
    stops: list[Stop] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    kills_ended_at: datetime | None = None
    pushed: int = 0
    repeated: int = 0
    seconds: float = 0.0


class Feeder:
    """The producer: keeps so many jobs in flight, in a thread of its own."""

    def __init__(self, service: Service, producer: Producer, *, in_flight: int) -> None:
        self.orders: list[Order] = []
        self._service = service
        self._producer = producer
        self._in_flight = in_flight
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._feed, name="feeder", daemon=True)

    def start(self) -> None:
        """Begin to push."""
        self._thread.start()

    def stop(self) -> None:
        """Push nothing more."""
        self._ended.set()
        self._thread.join()

    def push(self) -> None:
        """One payload more."""
        with self._lock:
            order = self._producer.next()
            self.orders.append(order)
            self._service.push(order.queue, order.payload)

    @property
    def in_flight(self) -> int:
        """Pushed and not finished."""
        with self._service.store.read() as connection:
            finished = connection.scalar(select(func.count()).where(jobs.c.finished_at.is_not(None)))
        return len(self.orders) - int(finished or 0)

    def _feed(self) -> None:
        while not self._ended.wait(0.1):
            for _ in range(self._in_flight - self.in_flight):
                self.push()


class Campaign:
    """So many kills of each victim, then drains, then the verdict.

    A kill waits up to `hunt_seconds` for a job in the state that it is meant for.
    """

    def __init__(
        self,
        service: Service,
        receiver: SlowReceiver,
        random: Random,
        *,
        kills: int,
        engine: str,
        in_flight: int = 12,
        hunt_seconds: float = 4.0,
    ) -> None:
        self.story = Story()
        self._service = service
        self._receiver = receiver
        self._random = random
        self._kills = kills
        self._null = engine == "null"
        self._hunt_seconds = hunt_seconds
        dice = Random(random.random())  # of its own: it draws in another thread
        built = BUILT if self._null else [one for one in BUILT if one[0].startswith("sdxl")]
        producer = Producer(dice, built, fixtures=self._null, pictures=service.pictures)
        self._feeder = Feeder(service, producer, in_flight=in_flight)

    def run(self, *, drains: bool = True) -> Story:
        """All of it. Violations are collected, not raised."""
        begun = time.monotonic()
        try:
            self._service.start()
            self._feeder.start()
            if wait_until(lambda: "generating" in self._look()[1], 60) is None:
                raise CampaignFailed("nothing was generated within 60 s of the start")
            for victim, wanted in self._plan():
                self._kill(victim, wanted)
            self.story.kills_ended_at = datetime.now(UTC)
            if drains:
                self._drain()
            else:
                self._hurry()
            self._feeder.stop()
            self._settle()
            self.story.violations += violations(self._service, self._feeder.orders, self._receiver.heard)
            self._stop("idle, SIGTERM", again=False, at_most=10.0)
        except CampaignFailed as failure:
            self.story.violations.append(str(failure))
        self.story.pushed = len(self._feeder.orders)
        told = Counter(one.id for one in self._receiver.heard if one.status != "processing")
        self.story.repeated = sum(count > 1 for count in told.values())
        self.story.seconds = time.monotonic() - begun
        return self.story

    def _plan(self) -> list[tuple[str, str]]:
        """Each victim so often, every live state in turn among them, in random order."""
        plan = []
        live = [state.value for state in LIVE if self._null or state.value not in SKIPPED]
        for number, victim in enumerate(VICTIMS):
            plan += [(victim, live[(kill + number) % len(live)]) for kill in range(self._kills)]
        self._random.shuffle(plan)
        return plan

    def _look(self) -> tuple[int, Counter[str]]:
        """The last position, and the states of the jobs in flight."""
        with self._service.store.read() as connection:
            states = Counter(connection.scalars(select(jobs.c.state).where(jobs.c.finished_at.is_(None))))
            return int(connection.scalar(select(func.max(job_events.c.position))) or 0), states

    def _at_work(self) -> bool:
        """Whether the youngest worker has a job on its device, by the history."""
        youngest = select(workers.c.worker_id).order_by(workers.c.started_at.desc()).limit(1).scalar_subquery()
        drawing = select(job_attempts.c.job_id).where(
            job_attempts.c.stage == "generating",
            job_attempts.c.ended_at.is_(None),
            job_attempts.c.worker_id == youngest,
        )
        with self._service.store.read() as connection:
            return connection.execute(drawing).first() is not None

    def _kill(self, victim: str, wanted: str) -> None:
        service = self._service
        if self._random.random() < 0.8:  # else it may hit one that is just starting
            wait_until(self._at_work, RECOVERY_SECONDS)
        time.sleep(self._random.uniform(0.0, 1.5))  # the random moment
        target = service.find(victim)
        all_of_it = service.all()
        orphans = target.children(recursive=True) if victim == "worker" else []
        with service.store.read() as connection:
            known = set(connection.scalars(select(workers.c.worker_id)))
        until = time.monotonic() + self._hunt_seconds
        at_work, (position, states) = self._at_work(), self._look()
        while wanted not in states and time.monotonic() < until:
            time.sleep(0.002)
            at_work, (position, states) = self._at_work(), self._look()
        try:
            target.kill()
        except psutil.NoSuchProcess:
            return self._kill(victim, wanted)  # it died with another victim
        at = datetime.now(UTC)
        kill = Kill(victim, wanted, wanted in states, at_work, at, position, self._feeder.in_flight, states, known)
        self.story.kills.append(kill)
        print(f"kill {len(self.story.kills)}: {victim}, {wanted}{'' if kill.hit else ' missed'}", flush=True)
        if victim == "up":
            service.wait(5)
            kill.linger = self._gone(all_of_it, f"kill {len(self.story.kills)} of up")
            service.start()
        elif victim == "worker":
            kill.linger = self._gone(orphans, f"kill {len(self.story.kills)} of the worker")
        elif victim == "ingress":
            self._feeder.push()
        if self._random.random() < 0.8 or len(self.story.kills) == 4 * self._kills:
            wait_until(lambda: self._recovered(kill), RECOVERY_SECONDS)
            if not self._recovered(kill):
                raise CampaignFailed(f"{RECOVERY_SECONDS:g} s after kill {len(self.story.kills)} ({victim}): no work")

    def _gone(self, processes: list[psutil.Process], whose: str) -> float:
        def living() -> list[psutil.Process]:
            return [one for one in processes if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]

        def none() -> bool:
            try:
                return not living()
            except psutil.NoSuchProcess:
                return False  # it ended between the two questions

        lingered = wait_until(none, 30, look=0.01)
        if lingered is None:
            raise CampaignFailed(f"{whose}: {[one.cmdline()[2:4] for one in living()]} outlive it by 30 s")
        if lingered > LINGER_SECONDS:
            self.story.violations.append(f"{whose}: what it had started lived for {lingered:.1f} s more")
        return lingered

    def _recovered(self, kill: Kill) -> bool:
        """Whether the victim's successor has worked: a claim, a model loaded, a payload admitted."""
        sign = {
            "engine": job_events.c.kind == "model_loaded",
            "ingress": job_events.c.kind == "job_queued",
        }.get(kill.victim, and_(job_events.c.kind == "claimed", job_events.c.worker_id.not_in(kill.workers)))
        with self._service.store.read() as connection:
            kill.recovered_at = connection.scalar(
                select(func.min(job_events.c.at)).where(
                    job_events.c.position > kill.position, job_events.c.at > kill.at, sign
                )
            )
        return kill.recovered_at is not None

    def _drain(self) -> None:
        """SIGTERM under load; SIGTERM with a job that takes too long to wait for; and a second SIGTERM."""
        self._busy()
        self._stop("working, SIGTERM", again=False, at_most=DRAIN_SECONDS)
        slow = {"OURVIDZ_NULL_STEP_SECONDS": "2"} if self._null else {}
        self._service.start(**slow)
        self._busy()
        given = self._stop("in a long job, SIGTERM", again=False, at_most=DRAIN_SECONDS)
        if self._null and not given:
            self.story.violations.append("a drain had to hand back a long job, and did not")
        self._service.start(**slow)
        if not self._hurry():
            self.story.violations.append("a hurried stop had to hand back a long job, and did not")

    def _hurry(self) -> int:
        """A second SIGTERM stops at once, and costs nobody an attempt; how many leases were handed back."""
        self._busy()
        given = self._stop("in a job, SIGTERM twice", again=True, at_most=HURRIED_SECONDS)
        self._service.start()
        return given

    def _busy(self) -> None:
        """Wait until the device is at work."""
        working = select(job_events.c.position).where(job_events.c.kind == "stage_started")

        def drawing() -> bool:
            with self._service.store.read() as connection:
                return (
                    connection.execute(
                        working.where(job_events.c.position > begun, job_events.c.stage == "generating")
                    ).first()
                    is not None
                )

        begun = self._look()[0]
        if wait_until(drawing, 60) is None:
            raise CampaignFailed("no device was at work within 60 s")

    def _stop(self, what: str, *, again: bool, at_most: float) -> int:
        """End `up` politely; judge how it went; return how many leases were handed back."""
        service, begun = self._service, time.monotonic()
        position = self._look()[0]
        everything = service.all()
        service.signal()
        if again:
            time.sleep(0.5)
            service.signal(signal.SIGTERM)
        last: list[str] = []
        while (code := service.code()) is None and time.monotonic() - begun < at_most + 30:
            last = [role for role, living in service.processes().items() if living]
            time.sleep(0.05)
        seconds = time.monotonic() - begun
        complaints = self.story.violations
        if code != 0:
            complaints.append(f"{what}: up ended with {code}")
        if seconds > at_most:
            complaints.append(f"{what}: up took {seconds:.1f} s, {at_most:g} are allowed; the last: {', '.join(last)}")
        if left := [one for one in everything if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]:
            complaints.append(f"{what}: {len(left)} processes outlive up: {[one.cmdline()[2:4] for one in left]}")
        with service.store.read() as connection:
            pids = [one.pid for one in everything]  # afterwards: one that was just starting has written its row by now
            stopped = list(connection.scalars(select(workers.c.worker_id).where(workers.c.pid.in_(pids))))
            held = connection.scalar(
                select(func.count()).where(jobs.c.finished_at.is_(None), jobs.c.worker_id.in_(stopped))
            )
            rows = connection.execute(
                select(job_events.c.job_id, job_events.c.data).where(
                    job_events.c.position > position, job_events.c.kind == "interrupted"
                )
            ).all()
        rows = [row for row in rows if any(name in row.data for name in stopped)]  # not of one that was killed before
        if held:
            complaints.append(f"{what}: {held} leases were not handed back")
        for row in rows:
            if '"counts":false' not in row.data:
                complaints.append(f"{what}: job {row.job_id} paid an attempt: {row.data}")
        self.story.stops.append(Stop(what, seconds, -1 if code is None else code, len(rows)))
        return len(rows)

    def _settle(self) -> None:
        """Wait for the end of every job, as long as anything happens at all."""
        # A dead ingress is cleared after 15 s, a job in hand waits for its lease, a callback for its second try.
        seen, since = self._look()[0], time.monotonic()
        while (left := self._feeder.in_flight) and time.monotonic() - since < QUIET_SECONDS:
            time.sleep(0.1)
            position = self._look()[0]
            if position != seen:
                seen, since = position, time.monotonic()
        if left:
            self.story.violations.append(f"{left} jobs have not ended, and nothing happened for {QUIET_SECONDS:g} s")
        wait_until(lambda: not self._service.lists(), 30)
        wait_until(lambda: not self._service.spooled(), 5)


def main() -> int:
    """Run one campaign and print what came of it."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaigns.kills", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--kills", type=int, default=20, help="of each victim")
    parser.add_argument("--engine", choices=("null", "diffusers"), default="null")
    parser.add_argument("--in-flight", type=int, default=12, help="jobs that are kept in flight")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6))
    parser.add_argument("--keep", action="store_true", help="keep the folder with database, log and pictures")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the servers are ours to end
    print(f"seed {options.seed}", flush=True)
    random = Random(options.seed)
    folder = Path(tempfile.mkdtemp(prefix="ovz-kills-"))
    print(f"folder {folder}", flush=True)
    model = None
    if options.engine == "diffusers":
        make_tiny(folder / "models")
        model = folder / "models" / "tiny-sdxl"
    with (
        database_at(options.database, folder) as url,
        served(folder, url, options.engine, random, model=model) as (service, receiver),
    ):
        campaign = Campaign(
            service, receiver, random, kills=options.kills, engine=options.engine, in_flight=options.in_flight
        )
        story = campaign.run()
        report(story, service, title=f"{options.database}, {options.engine}, seed {options.seed}")
    if not options.keep and not story.violations:
        shutil.rmtree(folder, ignore_errors=True)
    return 1 if story.violations else 0


if __name__ == "__main__":
    sys.exit(main())
