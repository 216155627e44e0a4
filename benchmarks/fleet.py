"""Workers on one host with real engines, one database, one spool and one receiver: what benchmarks of a service need.

Each worker has a data folder of its own, since a device has one engine: so several can share a CPU.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from ourvidz.loopback_receiver import LoopbackReceiver
from ourvidz.migrate import upgrade
from statemachine.admission import NewJob
from statemachine.events import Event
from statemachine.job import Stored
from statemachine.store import EventStore, open_store
from statemachine.store.reading import lease, list_workers
from workers.arrivals import build_payload, read
from workers.presets import PRESETS
from workers.worker import SLOTS

LIMIT_SECONDS: Final = 300.0
Found = TypeVar("Found")
Kind = TypeVar("Kind", bound=Event)


@dataclass(frozen=True)
class Step:
    """How far a job on a device is, as its lease tells."""

    step: int
    of: int
    seconds: float


class Fleet:
    """Its workers are started, stopped and counted by whoever holds it."""

    def __init__(self, folder: Path, models: Path, callbacks: LoopbackReceiver, settings: Mapping[str, str]) -> None:
        url = f"sqlite:///{folder / 'ourvidz.sqlite'}"
        upgrade(url)
        self.store: EventStore = open_store(url)
        self.callbacks = callbacks
        self._folder = folder
        self._started: list[subprocess.Popen[bytes]] = []
        self._environment = {name: value for name, value in os.environ.items() if not name.startswith("OURVIDZ_")} | {
            "OURVIDZ_DATABASE_URL": url,
            "OURVIDZ_SPOOL_DIR": str(folder / "spool"),
            "OURVIDZ_STORAGE_URL": f"file://{folder / 'storage'}",
            "OURVIDZ_CALLBACK_URL": callbacks.url,
            "OURVIDZ_SDXL_MODEL": str(models / "tiny-sdxl"),
            "OURVIDZ_WAN_MODEL": str(models / "tiny-wan"),
            "OURVIDZ_DEVICE": "cpu",
            "OURVIDZ_LOG_LEVEL": "warning",
            **settings,
        }

    def start(self, what: str) -> "subprocess.Popen[bytes]":
        """Start a worker, or a supervisor."""
        own = {"OURVIDZ_DATA_DIR": str(self._folder / f"data-{len(self._started)}")}
        process = subprocess.Popen(
            [sys.executable, "-m", "ourvidz.processes", what, "--parent", str(os.getpid())],
            env=self._environment | own,
            start_new_session=True,
        )
        self._started.append(process)
        return process

    def start_worker(self) -> "subprocess.Popen[bytes]":
        """Start a worker, and wait until it claims: its engine is up."""
        process = self.start("worker")

        def up() -> bool:
            row = self.row(process.pid)
            return bool(row.get("engine_pid")) and row["note"] is None

        until(up)
        return process

    def row(self, pid: int) -> dict[str, Any]:
        """The worker of that process as the database has it; empty before its first word."""
        with self.store.read() as connection:
            return next((row for row in list_workers(connection) if row["pid"] == pid), {})

    def submit(self, job_type: str, *, steps: int, seed: int = 7) -> str:
        """Admit one job, as if it had come from the list."""
        payload = build_payload(job_type, "a heron at dawn", seed=seed, config={"sample_steps": steps})
        raw = msgspec.json.encode(payload)
        queue = PRESETS[job_type].queue
        arrival = read(raw, queue=queue, source="cli", now=self.store.now(), draw_seed=lambda: seed)
        if not isinstance(arrival, NewJob):
            raise SystemExit(f"not admitted: {arrival}")
        self.store.admit([arrival])
        return arrival.job_id

    def warm(self) -> None:
        """Have every worker draw with each model: more jobs of it than one may hold."""
        living = sum(process.poll() is None for process in self._started)
        for job_type in ("sdxl_image_fast", "image_fast"):
            for job_id in [self.submit(job_type, steps=2) for _ in range((SLOTS["engine"] + 1) * living)]:
                until(partial(self.store.finished, job_id))

    def drawing(self, job_id: str, *, least: int) -> Step:
        """Wait until so many steps are made and told."""

        def told() -> Step | None:
            with self.store.read() as connection:
                progress = (lease(connection, job_id) or {}).get("progress") or {}
            if progress.get("step", 0) < least:
                return None
            return Step(progress["step"], progress["of"], progress["seconds"])

        return until(told)

    def rows(self, job_id: str, kind: type[Kind]) -> list[tuple[Stored, Kind]]:
        """The job's events of that kind, in their envelopes."""
        return [(row, row.event) for row in self.store.history(job_id) if isinstance(row.event, kind)]

    def close(self) -> None:
        """Leave nothing running."""
        for process in self._started:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self._started:
            process.wait(60)
        self.store.close()


@contextmanager
def fleet(folder: Path, models: Path, **settings: str) -> Iterator[Fleet]:
    """One without any worker yet, in a new folder."""
    folder.mkdir()
    with LoopbackReceiver() as callbacks:
        opened = Fleet(folder, models, callbacks, settings)
        try:
            yield opened
        finally:
            opened.close()


def until(found: Callable[[], Found | None], *, look: float = 0.005) -> Found:
    """Wait for the first answer that is true. Raises SystemExit when none comes."""
    begun = time.monotonic()
    while time.monotonic() - begun < LIMIT_SECONDS:
        if answer := found():
            return answer
        time.sleep(look)
    raise SystemExit(f"nothing came within {LIMIT_SECONDS:g} s")
