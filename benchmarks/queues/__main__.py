"""The five faults of public job-queue benchmarks, ours beside DBOS, by turns on one machine.

    python -m benchmarks.queues [--jobs 60] [--scenario NAME …] [--dbos-venv .venv-dbos] [--json FILE]

A job fetches a picture, draws some steps of sleeping work on its worker's one device, puts a file into a folder and
tells a receiver. Accepted is an answered LPUSH (ours) or a returned enqueue (DBOS); ended, an outcome at the receiver.
"""

import argparse
import os
import platform
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from typing import Any, Final

from PIL import Image

from benchmarks.queues import dbos_system
from benchmarks.queues.dbos_system import Dbos
from benchmarks.queues.faults import FAULTS, Target
from benchmarks.queues.figures import Figures, figures
from benchmarks.queues.ours import Ours
from benchmarks.queues.report import show, write
from benchmarks.queues.servers import Postgres, postgres
from benchmarks.queues.systems import Surroundings, System
from benchmarks.queues.trial import LOST_SECONDS, Story, Trial
from ourvidz.loopback_pictures import LoopbackPictures
from ourvidz.loopback_receiver import LoopbackReceiver

NONE: Final = "none"
LOAD_SECONDS: Final = 30.0
PICTURE: Final = "reference.png"


def main() -> int:
    """Every scenario for each system, then the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.queues", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    scenarios = (NONE, *FAULTS)
    parser.add_argument("--jobs", type=int, default=60, help="at once without a fault; with one, in half a minute each")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--step-seconds", type=float, default=0.05)
    parser.add_argument("--lease-seconds", type=float, default=30.0, help="ours; 30 is its default")
    parser.add_argument("--scenario", nargs="+", choices=scenarios, default=scenarios, metavar="NAME")
    parser.add_argument("--dbos-venv", type=Path, default=Path(".venv-dbos"), help="made where it is not there")
    parser.add_argument("--json", type=Path, help="where the figures go; by default beside the temporary files")
    parser.add_argument("--keep", action="store_true", help="keep logs and files")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the servers are ours to end
    python = dbos_system.interpreter(options.dbos_venv.absolute())
    systems: dict[str, Callable[[Surroundings], System]] = {
        "ours": partial(Ours, lease_seconds=options.lease_seconds),
        "DBOS": partial(Dbos, python=python),
    }
    folder = Path(tempfile.mkdtemp(prefix="ovz-queues-"))
    results: dict[str, dict[str, Figures]] = {}
    with postgres(folder / "pg") as server:
        setting = _setting(server, options)
        for scenario in options.scenario:
            for name, system in systems.items():
                begun = time.monotonic()
                found = figures(_trial(scenario, system, server, folder / f"{scenario}-{name}", options))
                results.setdefault(scenario, {})[name] = found
                print(
                    f"{scenario}, {name}: {time.monotonic() - begun:.0f} s, load {os.getloadavg()[0]:.1f}", flush=True
                )
    setting["load average at the end"] = _load()
    show(results, setting)
    path = options.json or Path(tempfile.gettempdir()) / f"{folder.name}.json"
    write(results, setting, path)
    print(f"written to {path}")
    if not options.keep:
        shutil.rmtree(folder, ignore_errors=True)
    return 0


def _trial(
    scenario: str,
    start: Callable[[Surroundings], System],
    server: Postgres,
    folder: Path,
    options: argparse.Namespace,
) -> Story:
    """One scenario for one system, with a database, a receiver and a folder of its own."""
    folder.mkdir()
    database = folder.name.lower().replace("-", "_")
    server.create(database)
    with LoopbackReceiver() as receiver, LoopbackPictures({PICTURE: _picture()}) as pictures:
        around = Surroundings(
            folder=folder,
            database_url=server.url(database),
            receiver_url=receiver.url,
            picture_url=pictures.url(PICTURE),
            picture_host=pictures.host,
            steps=options.steps,
            step_seconds=options.step_seconds,
        )
        system = start(around)
        try:
            trial = Trial(system, receiver)
            if scenario == NONE:
                return trial.alone(jobs=options.jobs)
            target = Target(server, database, system)
            return trial.under(FAULTS[scenario], target, jobs_a_second=options.jobs / LOAD_SECONDS)
        finally:
            system.close()
            server.drop(database)


def _picture() -> bytes:
    file = BytesIO()
    Image.linear_gradient("L").convert("RGB").save(file, "PNG")
    return file.getvalue()


def _setting(server: Postgres, options: argparse.Namespace) -> dict[str, Any]:
    return {
        "machine": f"{os.cpu_count()} cores, {platform.platform()}, Python {platform.python_version()}",
        "PostgreSQL": f"{server.told('SHOW server_version')}, max_connections {server.told('SHOW max_connections')}",
        "ours": f"{version('ourvidz')}, lease {options.lease_seconds:g} s, else defaults",
        "DBOS": f"{dbos_system.VERSION}, worker_concurrency {dbos_system.CONCURRENCY}, else defaults, no Conductor",
        "jobs": f"{options.jobs} at once, or {options.jobs / LOAD_SECONDS:g} a second",
        "lost": f"not ended when nothing was told for {LOST_SECONDS:g} s",
        "a job": f"{options.steps} steps of {options.step_seconds:g} s",
        "faults": {name: fault.what for name, fault in FAULTS.items() if name in options.scenario},
        "load average at the begin": _load(),
    }


def _load() -> str:
    return ", ".join(f"{load:.1f}" for load in os.getloadavg())


if __name__ == "__main__":
    sys.exit(main())
