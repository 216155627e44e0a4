"""What preferring jobs of the loaded model saves, and what it costs the others.

    python -m benchmarks.affinity [--jobs 40] [--windows 0 30 120] [--models FOLDER]

So many jobs, SDXL and WAN by turns, lie before a real worker with a real engine that has room for one model only, once
for each window. Without one (0) every job needs a swap. All windows in one run, since only ratios can be compared
between machines. A swap is a model that was loaded; a wait is from the queue to the begin of the drawing.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import func, select

from ourvidz.migrate import upgrade
from statemachine.admission import NewJob
from statemachine.store import EventStore, open_store
from statemachine.store.schema import job_attempts, job_events, jobs, workers
from workers.arrivals import build_payload, read
from workers.models import make_tiny
from workers.presets import PRESETS
from workers.weights import size_of

TYPES = ("sdxl_image_fast", "image_fast")
STEPS = 10
GIB = 1024**3


@dataclass(frozen=True)
class Run:
    """What came of one window. Seconds; `waits` in the order of arrival."""

    window: float
    swaps: int
    loading: float
    total: float
    waits: list[float]


def main() -> int:
    """Run every window and compare them with the first."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=40)
    parser.add_argument("--windows", type=float, nargs="+", default=[0.0, 30.0, 120.0])
    parser.add_argument("--models", type=Path, help="a folder with tiny-sdxl and tiny-wan; made by default")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ovz-affinity-") as folder:
        root = Path(folder)
        models = arguments.models or _made(root / "models")
        runs = [
            _run(root / str(number), models, window, arguments.jobs) for number, window in enumerate(arguments.windows)
        ]
    _print(runs)
    return 0


def _made(folder: Path) -> Path:
    folder.mkdir()
    make_tiny(folder)
    return folder


def _run(folder: Path, models: Path, window: float, count: int) -> Run:
    folder.mkdir()
    url = f"sqlite:///{folder}/ourvidz.sqlite"
    upgrade(url)
    sizes = [size_of(models / name) for name in ("tiny-sdxl", "tiny-wan")]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OURVIDZ_")} | {
        "OURVIDZ_DATA_DIR": str(folder),
        "OURVIDZ_DATABASE_URL": url,
        "OURVIDZ_SDXL_MODEL": str(models / "tiny-sdxl"),
        "OURVIDZ_WAN_MODEL": str(models / "tiny-wan"),
        "OURVIDZ_DEVICE": "cpu",
        "OURVIDZ_DEVICE_MEMORY_GB": str(max(sizes) * 1.02 / GIB),
        "OURVIDZ_AFFINITY_SECONDS": str(window),
        "OURVIDZ_LOG_LEVEL": "warning",
    }
    worker = subprocess.Popen(
        [sys.executable, "-m", "ourvidz.processes", "worker", "--parent", str(os.getpid())], env=environment
    )
    store = open_store(url)
    try:
        _until(lambda: _engine_up(store), worker)
        begun = store.now()
        ids = _admit(store, count)
        _until(lambda: _finished(store, ids) == len(ids), worker)
        return _measure(store, window, ids, begun)
    finally:
        store.close()
        worker.send_signal(signal.SIGTERM)
        worker.wait(60)


def _until(reached: Any, worker: subprocess.Popen[bytes]) -> None:
    while not reached():
        if worker.poll() is not None:
            raise SystemExit(f"the worker has ended with {worker.returncode}")
        time.sleep(0.1)


def _engine_up(store: EventStore) -> bool:
    with store.read() as connection:
        row = connection.execute(select(workers.c.engine_pid, workers.c.note)).first()
    return row is not None and row.engine_pid is not None and row.note is None


def _admit(store: EventStore, count: int) -> list[str]:
    """All at once: they have waited equally long."""
    arrivals = []
    for number in range(count):
        job_type = TYPES[number % len(TYPES)]
        payload = build_payload(job_type, "a heron at dawn", seed=number, config={"sample_steps": STEPS})
        raw = msgspec.json.encode(payload)
        arrivals.append(read(raw, queue=PRESETS[job_type].queue, source="cli", now=store.now(), draw_seed=lambda: 1))
    store.admit(arrivals)
    return [arrival.job_id for arrival in arrivals if isinstance(arrival, NewJob)]


def _finished(store: EventStore, ids: Sequence[str]) -> int:
    query = select(func.count()).where(jobs.c.id.in_(ids), jobs.c.finished_at.is_not(None))
    with store.read() as connection:
        return connection.scalar(query) or 0


def _measure(store: EventStore, window: float, ids: Sequence[str], begun: datetime) -> Run:
    with store.read() as connection:
        states = set(connection.scalars(select(jobs.c.state).where(jobs.c.id.in_(ids))))
        assert states == {"completed"}, states
        ended = connection.scalar(select(func.max(jobs.c.finished_at)).where(jobs.c.id.in_(ids)))
        loads = [
            msgspec.json.decode(data)["seconds"]
            for data in connection.scalars(
                select(job_events.c.data).where(job_events.c.job_id.in_(ids), job_events.c.kind == "model_loaded")
            )
        ]
        starts = {
            row.job_id: row.started_at
            for row in connection.execute(
                select(job_attempts.c.job_id, job_attempts.c.started_at).where(
                    job_attempts.c.job_id.in_(ids), job_attempts.c.stage == "generating"
                )
            )
        }
    assert ended is not None
    return Run(
        window=window,
        swaps=len(loads),
        loading=sum(loads),
        total=(ended - begun).total_seconds(),
        waits=[(starts[job_id] - begun).total_seconds() for job_id in ids],
    )


def _print(runs: list[Run]) -> None:
    base = runs[0]
    print(f"{len(base.waits)} jobs, {' and '.join(TYPES)} by turns, {STEPS} steps; ratios to the first line")
    print("window  swaps        loading s     total s        longest wait s  longest wait beyond the first line's")
    for run in runs:
        later = max(now - before for now, before in zip(run.waits, base.waits, strict=True))
        print(
            f"{run.window:6g}  {run.swaps:3d} ({run.swaps / base.swaps:4.2f})  {run.loading:6.2f} "
            f"({run.loading / base.loading:4.2f})  {run.total:6.1f} ({run.total / base.total:4.2f})  "
            f"{max(run.waits):6.1f} ({max(run.waits) / max(base.waits):4.2f})  {later:6.1f} s"
        )


if __name__ == "__main__":
    sys.exit(main())
