"""From LPUSH to the committed claim on an idle system, and what an idle `ourvidz up` costs.

    python -m benchmarks.pickup [--database URL] [--samples 300]

The service runs with the null engine. A sample ends when another connection sees the `claimed` event: committed,
and readable by anyone.
"""

import argparse
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import redis
from sqlalchemy import text

from ourvidz.migrate import upgrade
from statemachine.store import EventStore, open_store
from workers.arrivals import build_payload

IDLE_SECONDS = 20.0


def main() -> int:
    """Run `up`, measure, print, stop."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--database", help="a SQLAlchemy URL; a SQLite file of its own by default")
    parser.add_argument("--samples", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ovz-pickup-") as folder:
        url = arguments.database or f"sqlite:///{folder}/ourvidz.sqlite"
        upgrade(url)
        environment = {
            **os.environ,
            "OURVIDZ_ENGINE": "null",
            "OURVIDZ_DATA_DIR": folder,
            "OURVIDZ_DATABASE_URL": url,
            "OURVIDZ_LOG_LEVEL": "warning",
        }
        up = subprocess.Popen(
            [sys.executable, "-m", "ourvidz.processes", "up", "--parent", str(os.getpid())], env=environment
        )
        store = open_store(url)
        try:
            pushed = redis.Redis.from_url(_valkey(Path(folder) / "valkey" / "url"))
            _settle(store, pushed)
            print(f"database {store.engine.dialect.name}, {arguments.samples} samples")
            _idle(up.pid)
            _pickups(store, pushed, arguments.samples, random.Random(arguments.seed))
        finally:
            store.close()
            up.send_signal(signal.SIGTERM)
            up.wait(60)
    return 0


def _valkey(path: Path) -> str:
    while not path.exists():
        time.sleep(0.05)
    return path.read_text().strip()


def _sample(store: EventStore, pushed: redis.Redis) -> float:
    payload = build_payload("sdxl_image_fast", "a heron at dawn")
    body = json.dumps(payload)
    query = text("SELECT 1 FROM job_events WHERE job_id = :id AND kind = 'claimed'")
    begun = time.perf_counter()
    pushed.lpush("sdxl_queue", body)
    while True:
        with store.read() as connection:
            if connection.execute(query, {"id": payload["id"]}).first() is not None:
                return time.perf_counter() - begun
        time.sleep(0.0002)


def _settle(store: EventStore, pushed: redis.Redis) -> None:
    """The first jobs find everything cold."""
    for _ in range(5):
        _sample(store, pushed)
        time.sleep(0.3)


def _pickups(store: EventStore, pushed: redis.Redis, count: int, dice: random.Random) -> None:
    samples = []
    for _ in range(count):
        time.sleep(0.1 + dice.random() * 0.4)  # the job before has ended, the service is idle again
        samples.append(_sample(store, pushed) * 1000)
    cuts = statistics.quantiles(samples, n=100)
    print(
        f"LPUSH to committed claim: p50 {statistics.median(samples):.1f} ms, p90 {cuts[89]:.1f} ms, "
        f"p99 {cuts[98]:.1f} ms, max {max(samples):.1f} ms"
    )


def _idle(pid: int) -> None:
    """CPU time of `up` and all its children over a quiet while, in per cent of one core."""
    time.sleep(3.0)
    family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]

    def spent() -> dict[int, float]:
        return {p.pid: sum(p.cpu_times()[:2]) for p in family}

    before, begun = spent(), time.perf_counter()
    time.sleep(IDLE_SECONDS)
    after, seconds = spent(), time.perf_counter() - begun
    for process in family:
        share = 100 * (after[process.pid] - before[process.pid]) / seconds
        print(f"  {share:5.2f} %  {' '.join(process.cmdline()[1:5])[:70]}")
    print(f"idle: {100 * (sum(after.values()) - sum(before.values())) / seconds:.2f} % of a core over {seconds:.0f} s")


if __name__ == "__main__":
    sys.exit(main())
