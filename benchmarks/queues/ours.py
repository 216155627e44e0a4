"""Ours: `ourvidz up` with two workers on the null engine; jobs come in through Valkey."""

import json
import os
import sys
from collections.abc import Iterator
from typing import Final

import psutil
import redis

from benchmarks.queues.keeper import Keeper
from benchmarks.queues.systems import WORKERS, Surroundings
from ourvidz.layers import CONFIG, PREFIX
from ourvidz.processes.valkey import EmbeddedValkey
from workers.arrivals import build_payload

JOB_TYPE: Final = "sdxl_image_fast"
QUEUE: Final = "sdxl_queue"
STEP: Final = '"event": "step"'
NVIDIA_SMI: Final = "#!/bin/sh\n" + "".join(f"echo 'GPU {worker}: null'\n" for worker in range(WORKERS))
"""`up` has a worker for each GPU that this program lists; the null engine needs none of them."""


class Ours:
    """Whatever dies is started again by `up` itself."""

    def __init__(self, around: Surroundings, *, lease_seconds: float) -> None:
        self._around = around
        self._log = around.folder / "ours.log"
        self._valkey = EmbeddedValkey(around.folder / "valkey")
        redis_url = self._valkey.start()
        self._redis = redis.Redis.from_url(redis_url)
        programs = around.folder / "bin"
        programs.mkdir()
        (programs / "nvidia-smi").write_text(NVIDIA_SMI)
        (programs / "nvidia-smi").chmod(0o755)
        environment = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)} | {
            CONFIG: os.devnull,
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
            "OURVIDZ_ENGINE": "null",
            "OURVIDZ_NULL_STEP_SECONDS": str(around.step_seconds),
            "OURVIDZ_DATA_DIR": str(around.folder / "data"),
            "OURVIDZ_DATABASE_URL": around.database_url,
            "OURVIDZ_REDIS_URL": redis_url,
            "OURVIDZ_CALLBACK_URL": around.receiver_url,
            "OURVIDZ_ALLOWED_REFERENCE_HOSTS": around.picture_host,
            "OURVIDZ_LEASE_SECONDS": str(lease_seconds),
            "OURVIDZ_LOG_FORMAT": "json",
            "OURVIDZ_LOG_LEVEL": "debug",  # it tells each step
        }
        self._keeper = Keeper(self._log, environment)
        self._keeper.keep("up", [sys.executable, "-m", "ourvidz.processes", "up", "--parent", str(os.getpid())])

    def push(self, job_id: str) -> None:
        """As the producer does: an answered LPUSH is on Valkey's disk."""
        config = {"sample_steps": self._around.steps, "reference_image_url": self._around.picture_url}
        payload = build_payload(JOB_TYPE, "a heron at dawn", seed=1, job_id=job_id, config=config)
        self._redis.lpush(QUEUE, json.dumps(payload))

    def look(self) -> None:
        """See `System.look`."""
        self._keeper.look()

    def kill(self, worker: int) -> None:
        """See `System.kill`."""
        for process in psutil.Process(self._keeper.pid("up")).children():
            if f"cuda:{worker}" in process.cmdline():
                process.kill()

    def steps(self) -> Iterator[tuple[str, int]]:
        """See `System.steps`: what the workers' log says that their engines have said."""
        with self._log.open(encoding="utf-8") as lines:
            for line in lines:
                if STEP in line:
                    said = json.loads(line)
                    yield said["job"], said["step"]

    def close(self) -> None:
        """See `System.close`."""
        self._keeper.close()
        self._redis.close()
        self._valkey.stop()
