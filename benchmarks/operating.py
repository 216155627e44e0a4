"""What operators wait for: a cancel, a drain with a takeover, and what becomes of a worker that was paused too long.

    python -m benchmarks.operating [--cancels 20] [--drains 10] [--only cancel|drain|pause] [--models FOLDER]

Real engines with tiny models, on one host. A cancel begins when the act of `jobs cancel` is carried out and ends when
the receiver has heard of it, and when `job_cancelled` is written. A drain begins with SIGTERM; `handed back` is the
lease's end in the history, `taken over` the begin of the attempt in the second worker, which stands ready with the
model loaded. A pause is a SIGSTOP past the lease. Times depend on the machine; a step's own time stands beside them.
"""

import argparse
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Final

import psutil

from benchmarks.fleet import Fleet, fleet, until
from ourvidz import acts
from statemachine.errors import StoreAway
from statemachine.events import Checkpointed, Claimed, Interrupted, JobCancelled, StageStarted
from statemachine.store import EventStore
from statemachine.store.reading import rejected
from workers.models import make_tiny

TYPES: Final = ("sdxl_image_high", "video_high")
STEPS: Final = 100
LEASE_SECONDS: Final = 5.0


def main() -> int:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cancels", type=int, default=20, help="of SDXL, and as many of WAN")
    parser.add_argument("--drains", type=int, default=10)
    parser.add_argument("--only", choices=("cancel", "drain", "pause"))
    parser.add_argument("--models", type=Path, help="a folder with tiny-sdxl and tiny-wan; made by default")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    dice = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory(prefix="ovz-operating-") as folder:
        root = Path(folder)
        models = arguments.models or _made(root / "models")
        if arguments.only in (None, "cancel"):
            with fleet(root / "cancel", models) as own:
                _cancels(own, arguments.cancels, dice)
        if arguments.only in (None, "drain"):
            # Every step is kept: one that was made twice shows in the history.
            with fleet(root / "drain", models, OURVIDZ_DRAIN_SECONDS="0", OURVIDZ_CHECKPOINT_SECONDS="0") as own:
                _drains(own, arguments.drains, dice)
        if arguments.only in (None, "pause"):
            with fleet(
                root / "pause", models, OURVIDZ_LEASE_SECONDS=f"{LEASE_SECONDS:g}", OURVIDZ_CHECKPOINT_SECONDS="0"
            ) as own:
                _pause(own)
    return 0


def _made(folder: Path) -> Path:
    folder.mkdir()
    make_tiny(folder)
    return folder


def _cancels(own: Fleet, count: int, dice: random.Random) -> None:
    own.start_worker()
    own.warm()
    for job_type in TYPES:
        heard, written, steps, late = list[float](), list[float](), list[float](), 0
        while len(heard) < count:
            job_id = own.submit(job_type, steps=STEPS)
            at = own.drawing(job_id, least=2)
            time.sleep(dice.random() * 2 * at.seconds)  # anywhere in a step
            begun = own.store.now()
            list(acts.perform(own.store, acts.cancel("benchmark", "measured"), [job_id]))
            until(partial(own.store.finished, job_id), look=0.002)
            ended = own.rows(job_id, JobCancelled)
            if not ended:
                late += 1  # it was over before
                continue
            (told,) = (one for one in own.callbacks.deliveries if one.body["job_id"] == job_id and _cancelled(one.body))
            heard.append(told.time - begun.timestamp())
            written.append(_between(begun, ended[0][0].at))
            steps.append(at.seconds)
        print(f"cancel, {job_type}: {count} samples, {late} too late; a step takes {_told(steps)}")
        print(f"  told to the receiver within  {_told(heard)}")
        print(f"  job_cancelled within         {_told(written)}", flush=True)


def _cancelled(body: dict[str, object]) -> bool:
    metadata = body.get("metadata")
    return isinstance(metadata, dict) and metadata.get("error_type") == "Cancelled"


@dataclass(frozen=True)
class Drain:
    """One drain in the middle of a job. Seconds from SIGTERM; `again` are steps that were made a second time."""

    step: float
    handed_back: float
    taken_over: float
    next_step: float
    ended: float
    again: int


def _drains(own: Fleet, count: int, dice: random.Random) -> None:
    members = [own.start_worker(), own.start_worker()]
    drains = list[Drain]()
    for number in range(count):
        own.warm()
        stopped, drain = _drain(own, members, TYPES[number % len(TYPES)], least=dice.randrange(3, STEPS // 3))
        drains.append(drain)
        members.remove(stopped)
        if number + 1 < count:
            members.append(own.start_worker())
    print(f"drain and takeover: {count} samples; a step takes {_told([one.step for one in drains])}")
    print(f"  SIGTERM to handed back       {_told([one.handed_back for one in drains])}")
    print(f"  SIGTERM to taken over        {_told([one.taken_over for one in drains])}")
    print(f"  SIGTERM to the next step     {_told([one.next_step for one in drains])}")
    print(f"  SIGTERM to the worker's end  {_told([one.ended for one in drains])}")
    print(f"  steps made again             {max(one.again for one in drains)} at most", flush=True)


def _drain(
    own: Fleet, members: "list[subprocess.Popen[bytes]]", job_type: str, *, least: int
) -> "tuple[subprocess.Popen[bytes], Drain]":
    """The member that was drained while it drew, and how that went. Another one ends the job."""
    job_id = own.submit(job_type, steps=STEPS)
    at = own.drawing(job_id, least=least)
    holder = own.store.load(job_id).worker_id
    (first,) = (process for process in members if own.row(process.pid)["worker_id"] == holder)
    begun = own.store.now()
    first.send_signal(signal.SIGTERM)
    code = first.wait(60)
    ended = own.store.now()
    until(partial(own.store.finished, job_id))
    (given, interrupted), *more = own.rows(job_id, Interrupted)
    if code or more or interrupted.reason != "drained" or interrupted.counts:
        raise SystemExit(f"no drain: exit code {code}, {interrupted}, {more}")
    taken = next(row for row, _ in own.rows(job_id, StageStarted) if row.version > given.version)
    kept = own.rows(job_id, Checkpointed)
    before = [event.step for row, event in kept if row.version < given.version]
    behind = [(row, event.step) for row, event in kept if row.version > given.version]
    return first, Drain(
        step=at.seconds,
        handed_back=_between(begun, given.at),
        taken_over=_between(begun, taken.at),
        next_step=_between(begun, behind[0][0].at),
        ended=_between(begun, ended),
        again=sum(step <= before[-1] for _, step in behind),
    )


def _pause(own: Fleet) -> None:
    own.start("supervisor")
    first = own.start_worker()
    job_id = own.submit(TYPES[0], steps=STEPS)
    own.drawing(job_id, least=3)
    engine = psutil.Process(own.row(first.pid)["engine_pid"])
    _stop(first, own.store)
    time.sleep(0.5)  # its engine draws on: these steps it will try to write
    engine.suspend()
    begun = own.store.now()
    own.start_worker()
    until(partial(own.store.finished, job_id))
    (expired, _), *_ = own.rows(job_id, Interrupted)
    ended = own.store.load(job_id)
    engine.resume()
    first.send_signal(signal.SIGCONT)

    def refused() -> int:
        with own.store.read() as connection:
            return len(rejected(connection, job_id))

    until(refused)
    print(f"pause: SIGSTOP past a lease of {LEASE_SECONDS:g} s; it was ended {_between(begun, expired.at):.1f} s after")
    workers = [event.worker for _, event in own.rows(job_id, Claimed)]
    print(f"  {job_id} was {ended.state} by {workers[-1]}; then SIGCONT for {workers[0]}")
    print(
        f"  its history has {len(own.store.history(job_id)) - ended.version} events more, and `jobs inspect` shows:\n"
    )
    print(_inspected(own, job_id), flush=True)


def _stop(worker: "subprocess.Popen[bytes]", store: EventStore) -> None:
    """Between two transactions: SQLite has one writer, and one that stands still keeps all others from writing."""
    while True:
        worker.send_signal(signal.SIGSTOP)
        try:
            with store.write():
                return
        except StoreAway:
            worker.send_signal(signal.SIGCONT)


def _inspected(own: Fleet, job_id: str) -> str:
    """The part of `jobs inspect` that tells of refused writes."""
    url = own.store.engine.url.render_as_string(hide_password=False)
    page = subprocess.run(
        [
            sys.executable,
            "-c",
            "from ourvidz.cli import main; main()",
            "--database-url",
            url,
            "jobs",
            "inspect",
            job_id,
        ],
        env=os.environ | {"COLUMNS": "120"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return page[page.index("Anomalies") :].split("\n\n")[0]


def _between(begun: datetime, at: datetime) -> float:
    return (at - begun).total_seconds()


def _told(seconds: list[float]) -> str:
    return f"p50 {statistics.median(seconds) * 1000:.0f} ms, max {max(seconds) * 1000:.0f} ms"


if __name__ == "__main__":
    sys.exit(main())
