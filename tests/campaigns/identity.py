"""Byte-identity under SIGKILL: each job type in each mode, killed at three steps, ends with an undisturbed run's bytes.

    python -m tests.campaigns.identity [--database postgresql] [--only "^video_fast (start|end)"] [--output FILE.json]

Real engines with tiny models, in a running `up` that keeps every step. Each case is drawn once undisturbed, then three
times more under other ids: one dies at an early step, one in the middle, one at the last. Two of the three lose their
engine process, one the whole worker. A kill that would come too late spares its victim, and the run is begun anew.
Prints a line for each kill, then a table; exits with 1 where a byte differs, more than a checkpoint interval was made
again, or any other invariant does not hold. All 52 cases take half an hour.
"""

import argparse
import json
import re
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any, Final, NoReturn

from sqlalchemy import func, select

from ourvidz import loopback_pictures
from ourvidz.loopback_pictures import LoopbackPictures
from statemachine.events import Checkpointed
from statemachine.store import EventStore
from statemachine.store.schema import job_events, jobs
from tests.campaigns.hunting import Aim, Kill, Victim, When, shoot
from tests.campaigns.matrix import Case, cases, payload, settings
from tests.campaigns.orders import Order
from tests.campaigns.service import CampaignFailed, Service, SlowReceiver, database_at, served, wait_until
from tests.campaigns.verdict import violations
from workers.models import make_tiny
from workers.spool import sha256

WHENS: Final[tuple[When, ...]] = ("early", "middle", "last")
LOOK_SECONDS: Final = 0.01
QUIET_SECONDS: Final = 300.0
VIDEO_STEPS: Final = 12
"""Pictures have the steps of their type; so many are enough for an early one, a middle one and the last."""
MISSES: Final = 12
"""A run that was missed so often cannot be hit."""


@dataclass
class Run:
    """One job of a case. Without an `aim` it is the undisturbed one."""

    case: Case
    order: Order
    aim: Aim | None = None
    kill: Kill | None = None


@dataclass
class Row:
    """What became of a case. `wrong` holds a sentence for each promise that was not kept."""

    case: Case
    digests: list[str]
    kills: list[Kill] = field(default_factory=list)
    missed: int = 0
    wrong: list[str] = field(default_factory=list)

    @property
    def cells(self) -> list[str]:
        """For the table."""
        steps = [f"{kill.step}{'w' if kill.victim == 'worker' else ''}" for kill in self.kills]
        return [
            self.case.made,
            self.case.held_to,
            f"{', '.join(steps)} of {self.kills[0].of}" if self.kills else "-",
            ", ".join(str(kill.kept) for kill in self.kills),
            ", ".join(str(kill.repeated) for kill in self.kills),
            str(self.missed),
            "; ".join(self.wrong) or f"{len(self.digests)} equal",
        ]


class Campaign:
    """Case by case: the undisturbed run alone, then its victims, of which one is drawn and the others are at hand."""

    def __init__(self, service: Service, receiver: SlowReceiver, url_of: Mapping[str, str], chosen: list[Case]) -> None:
        self._service = service
        self._receiver = receiver
        self._url_of = url_of
        self._chosen = chosen
        self._runs: list[Run] = []
        self._begun = time.monotonic()

    def run(self) -> tuple[list[Row], list[str]]:
        """A row for each case that was begun, and what is wrong beside them. One that fails tells of what it has."""
        try:
            beside = self._campaign()
        except CampaignFailed as failure:
            beside = [str(failure)]
        return [self._row(run) for run in self._runs if run.aim is None and self._ended(run)], beside

    def _campaign(self) -> list[str]:
        self._service.start()
        for number, case in enumerate(self._chosen):
            self._hunt(case, [None])
            self._hunt(case, aims(number))
        wait_until(lambda: not self._service.lists() and not self._service.spooled(), 30)
        return violations(self._service, [run.order for run in self._runs], self._receiver.heard)

    def _push(self, case: Case, aim: Aim | None) -> Run:
        body = payload(case, self._url_of, steps=VIDEO_STEPS if case.preset.media == "video" else None)
        order = Order(body["id"], f"{case.made} {case.held_to}", case.preset.queue, json.dumps(body).encode())
        run = Run(case, order, aim)
        self._runs.append(run)
        self._service.push(order.queue, order.payload)
        return run

    def _hunt(self, case: Case, wanted: Sequence[Aim | None]) -> None:
        """So many runs of a case at once, to their ends. One that was missed is begun anew, under another id."""
        in_flight = [self._push(case, aim) for aim in wanted]
        last, seen = time.monotonic(), 0
        while in_flight:
            for run in in_flight:
                if run.kill is None and run.aim is not None:
                    run.kill = shoot(self._service.store, run.order.job_id, run.aim)
                    if run.kill is not None:
                        self._tell(run, run.kill)
            for run in [run for run in in_flight if self._ended(run)]:
                in_flight.remove(run)
                if run.kill is None and run.aim is not None:
                    in_flight.append(self._again(run, run.aim))
            if (position := self._position()) != seen:
                last, seen = time.monotonic(), position
            if time.monotonic() - last > QUIET_SECONDS:
                raise CampaignFailed(f"nothing happened for {QUIET_SECONDS:g} s")
            time.sleep(LOOK_SECONDS)

    def _again(self, missed: Run, aim: Aim) -> Run:
        before = sum(run.case is missed.case and run.aim == aim for run in self._runs)
        if before > MISSES:
            raise CampaignFailed(f"{missed.order.template}: missed {before} times at its {aim.when} step")
        return self._push(missed.case, aim)

    def _tell(self, run: Run, kill: Kill) -> None:
        seconds, killed = time.monotonic() - self._begun, sum(run.kill is not None for run in self._runs)
        print(
            f"{seconds:6.0f} s {killed:3d}/{len(self._chosen) * len(WHENS)} {run.order.template}: "
            f"{kill.victim} killed at step {kill.step} of {kill.of}, {kill.kept} kept",
            flush=True,
        )

    def _ended(self, run: Run) -> bool:
        with self._service.store.read() as connection:
            query = select(jobs.c.finished_at).where(jobs.c.id == run.order.job_id)
            return connection.scalar(query) is not None

    def _position(self) -> int:
        with self._service.store.read() as connection:
            return connection.scalar(select(func.max(job_events.c.position))) or 0

    def _row(self, undisturbed: Run) -> Row:
        """The case of that run, its other runs beside it."""
        row = Row(undisturbed.case, self._digests(undisturbed))
        expected = undisturbed.case.images
        if len(row.digests) != expected:
            row.wrong.append(f"undisturbed: {len(row.digests)} files instead of {expected}")
        for run in self._runs:
            if run.case is not undisturbed.case or run.aim is None or not self._ended(run):
                continue
            if self._digests(run) != row.digests:
                row.wrong.append(f"{run.order.job_id}: other bytes")
            if run.kill is None:
                row.missed += 1
            else:
                row.kills.append(run.kill)
                row.wrong += [f"{run.order.job_id}: {why}" for why in wrong(self._service.store, run.kill)]
        row.kills.sort(key=lambda kill: kill.step)
        if len(row.kills) != len(WHENS):
            row.wrong.append(f"{len(row.kills)} of {len(WHENS)} kills")
        return row

    def _digests(self, run: Run) -> list[str]:
        """Of the job's files as they lie in the storage. The verdict compares those with the history's."""
        assets = self._service.store.load(run.order.job_id).current_assets
        return [sha256((self._service.storage / str(a.bucket) / str(a.key)).read_bytes()) for a in assets if a.key]


def run(folder: Path, url: str, models: Path, chosen: list[Case]) -> tuple[list[Row], list[str]]:
    """A row for each case, and what is wrong beside them."""
    pictures = {"single": loopback_pictures.dawn(), "start": loopback_pictures.dawn(), "end": loopback_pictures.night()}
    with LoopbackPictures(pictures) as server:
        url_of = {role: server.url(role) for role in pictures}
        own = settings(models, server.host) | {"OURVIDZ_CHECKPOINT_SECONDS": "0", "OURVIDZ_LEASE_SECONDS": "5"}
        with served(folder, url, "diffusers", Random(1), settings=own, slowest=0.0) as (service, receiver):
            found = Campaign(service, receiver, url_of, chosen).run()
            service.signal()
            service.wait(60)
    return found


def aims(number: int) -> list[Aim]:
    """Early, middle and last; the whole worker dies in one of them, in another one in each case."""
    victims: list[Victim] = ["engine", "engine", "engine"]
    victims[number % len(victims)] = "worker"
    return [Aim(when, victim) for when, victim in zip(WHENS, victims, strict=True)]


def wrong(store: EventStore, kill: Kill) -> list[str]:
    """What the history tells against the promise: interrupted there, gone on from the last checkpoint.

    Checkpoints lie a step apart, or as many as are made while one is written: never more than that is made again.
    """
    history = store.history(kill.job_id)
    behind = [row for row in history if row.version > kill.version]
    kept = [(row.version, row.event.step) for row in history if isinstance(row.event, Checkpointed)]
    steps = [step for version, step in kept if version > kill.version]
    interval = max(after - before for before, after in pairwise([0, *(step for _, step in kept)]))
    promises = {
        f"{kill.repeated} steps made again, checkpoints are {interval} apart": kill.repeated <= interval,
        "not interrupted there": behind[0].kind == "interrupted",
        "its checkpoint was discarded": all(row.kind != "checkpoint_discarded" for row in behind),
        f"gone on from before step {kill.kept}": all(step > kill.kept for step in steps),
    }
    return [promise for promise, held in promises.items() if not held]


def report(rows: list[Row], beside: list[str]) -> None:
    """The table, and what it comes to."""
    head = ["type", "mode", "killed at step (w: the whole worker)", "gone on from", "made again", "missed", "files"]
    for cells in (head, ["---"] * len(head), *(row.cells for row in rows)):
        print("| " + " | ".join(cells) + " |")
    kills = [kill for row in rows for kill in row.kills]
    again = Counter(kill.repeated for kill in kills)
    print(
        f"\n{len(rows)} cases, {len(kills)} kills ({sum(kill.victim == 'worker' for kill in kills)} of whole workers), "
        f"{sum(row.missed for row in rows)} missed and begun anew; steps made again: "
        + ", ".join(f"{steps} in {count}" for steps, count in sorted(again.items()))
    )
    for sentence in beside:
        print(f"violated: {sentence}")
    broken = sum(bool(row.wrong) for row in rows)
    print(f"{broken} cases with a broken promise, {len(beside)} other violations")


def _stopped(*_: object) -> NoReturn:
    """What has ended by then is told of, and the servers are ended."""
    raise CampaignFailed("stopped by SIGTERM")


def _document(rows: list[Row], beside: list[str], title: Mapping[str, Any]) -> str:
    table = [
        {
            "type": row.case.preset.job_type,
            "images": row.case.images,
            "mode": row.case.mode,
            "reference_type": row.case.reference_type,
            "kills": [asdict(kill) | {"repeated": kill.repeated} for kill in row.kills],
            "missed": row.missed,
            "digests": row.digests,
            "wrong": row.wrong,
        }
        for row in rows
    ]
    return json.dumps({**title, "cases": table, "violations": beside}, indent=1)


def main() -> int:
    """Run the campaign; 0 when every promise was kept."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaigns.identity", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--only", default="", metavar="REGEX", help="only cases whose type and mode match")
    parser.add_argument("--output", type=Path, metavar="FILE.json", help="the table for programs")
    parser.add_argument("--keep", action="store_true", help="keep the folder with database, log and pictures")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, _stopped)
    chosen = [case for case in cases() if re.search(options.only, f"{case.made} {case.held_to}")]
    if not chosen:
        parser.error(f"no case matches {options.only!r}")
    folder = Path(tempfile.mkdtemp(prefix="ovz-identity-"))
    print(f"{len(chosen)} cases, folder {folder}", flush=True)
    make_tiny(folder / "models")
    begun = time.monotonic()
    with database_at(options.database, folder) as url:
        rows, beside = run(folder, url, folder / "models", chosen)
    report(rows, beside)
    seconds = time.monotonic() - begun
    print(f"{options.database}, {seconds:.0f} s")
    if options.output is not None:
        title = {"database": options.database, "seconds": round(seconds)}
        options.output.write_text(_document(rows, beside, title))
    held = not beside and not any(row.wrong for row in rows)
    if held and not options.keep:
        shutil.rmtree(folder, ignore_errors=True)
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
