"""DBOS Transact for Python as its documentation recommends it for queued jobs on PostgreSQL, without Conductor.

Two processes with executor ids of their own, each of which recovers what it had begun when it is started again; one
queue, limited by worker; its defaults otherwise.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from benchmarks.queues.keeper import Keeper
from benchmarks.queues.systems import WORKERS, Surroundings

VERSION: Final = "3.4.0"
CONCURRENCY: Final = 8
"""Workflows that a worker has in hand: ours has eight slots too, and a claim waits for the next poll."""
PROGRAM: Final = Path(__file__).with_name("dbos_program.py")


class Dbos:
    """Its own environment, and its own program in it."""

    def __init__(self, around: Surroundings, python: Path) -> None:
        self._python = str(python)
        self._around = around
        self._producer: subprocess.Popen[str] | None = None
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("DBOS", "PYTHON"))}
        self._keeper = Keeper(around.folder / "dbos.log", environment)
        with (around.folder / "prepare.log").open("wb") as log:
            subprocess.run(self._command("prepare", "prepare"), env=environment, stderr=log, stdout=log, check=True)
        for worker in range(WORKERS):
            self._keeper.keep(_executor(worker), self._command("worker", _executor(worker)))
        with (around.folder / "producer.log").open("wb") as log:
            self._producer = subprocess.Popen(
                self._command("producer", "producer"),
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )

    def push(self, job_id: str) -> None:
        """Return when `enqueue` has returned. Raises ConnectionError when the producer has ended."""
        producer = self._producer
        if producer is None or producer.stdin is None or producer.stdout is None:
            raise ConnectionError("there is no producer")
        producer.stdin.write(f"{job_id}\n")
        producer.stdin.flush()
        for line in producer.stdout:
            if line.strip() == job_id:
                return
        raise ConnectionError("the producer has ended")

    def look(self) -> None:
        """See `System.look`."""
        self._keeper.look()

    def kill(self, worker: int) -> None:
        """See `System.kill`."""
        with suppress(ProcessLookupError):
            os.kill(self._keeper.pid(_executor(worker)), signal.SIGKILL)

    def steps(self) -> Iterator[tuple[str, int]]:
        """See `System.steps`: a line each, written by the step itself."""
        for line in (self._around.folder / "witness").read_text().splitlines():
            job_id, step = line.split()
            yield job_id, int(step)

    def close(self) -> None:
        """See `System.close`."""
        self._keeper.close()
        if self._producer is not None:
            self._producer.kill()
            self._producer.wait()

    def _command(self, role: str, executor: str) -> list[str]:
        settings = {
            "url": self._around.database_url,
            "executor": executor,
            "receiver": self._around.receiver_url,
            "picture": self._around.picture_url,
            "folder": str(self._around.folder),
            "steps": self._around.steps,
            "step_seconds": self._around.step_seconds,
            "concurrency": CONCURRENCY,
        }
        return [self._python, str(PROGRAM), role, json.dumps(settings)]


def _executor(worker: int) -> str:
    return f"worker-{worker}"


def interpreter(folder: Path) -> Path:
    """The interpreter of an environment with this version of DBOS in it, made where it is not there."""
    python = folder / "bin" / "python"
    question = "import importlib.metadata as m; print(m.version('dbos'))"
    if python.exists():
        found = subprocess.run([python, "-c", question], capture_output=True, text=True, check=False).stdout.strip()
        if found == VERSION:
            return python
    print(f"making {folder} with dbos {VERSION}", flush=True)
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    subprocess.run([python, "-m", "pip", "install", "--quiet", f"dbos=={VERSION}"], check=True)
    return python
