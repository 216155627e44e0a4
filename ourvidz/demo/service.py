"""The service that the demo shows: `ourvidz up` as a child of ours, and our own eyes on its database."""

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import redis
from sqlalchemy import select

from ourvidz.processes.up import child_environment
from ourvidz.settings import Settings
from statemachine.errors import SchemaMismatch, StoreAway
from statemachine.store import EventStore, open_store
from statemachine.store.reading import jobs_by_id
from statemachine.store.schema import workers


class DemoFailed(Exception):
    """The demo did not show what it is there to show."""


def embedded(settings: Settings, folder: Path, models: Mapping[str, Path], more: Mapping[str, Any]) -> Settings:
    """The embedded defaults, whatever is configured elsewhere: a demo must not touch anybody's service."""
    own: dict[str, Any] = {
        "data_dir": folder / "data",
        "storage_url": f"file://{folder / 'buckets'}",
        "device": settings.device,
        "log_format": "json",
        **models,
        **more,
    }
    return Settings(**own)


class Service:
    """Use it as a context manager: inside, the service is up."""

    def __init__(self, settings: Settings, log: Path) -> None:
        self.settings = settings
        self._log = log.open("wb")
        self._process: subprocess.Popen[bytes] | None = None
        self.store: EventStore
        self.redis: redis.Redis

    def __enter__(self) -> "Service":
        self._process = subprocess.Popen(
            [sys.executable, "-m", "ourvidz.processes", "up", "--parent", str(os.getpid())],
            env=child_environment(self.settings, None),
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
        )
        try:
            self._wait_until_up()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self._process.kill()  # its children die with it
                self._process.wait()
        self._log.close()

    def rows(self, job_ids: list[str]) -> list[dict[str, Any]]:
        """The jobs' rows, with their progress."""
        with self.store.read() as connection:
            return jobs_by_id(connection, job_ids)

    def engine_pid(self) -> int:
        """The engine process that works now."""
        with self.store.read() as connection:
            pid = connection.scalar(select(workers.c.engine_pid).order_by(workers.c.last_seen_at.desc()).limit(1))
        if pid is None:
            raise DemoFailed("no worker tells of an engine process")
        return int(pid)

    def _wait_until_up(self) -> None:
        url = self.settings.data_dir / "valkey" / "url"
        self.store = open_store(self.settings.database_url)
        until = time.monotonic() + 60.0
        while time.monotonic() < until:
            if self._process is None or self._process.poll() is not None:
                break
            with suppress(SchemaMismatch, StoreAway):  # not there yet
                self.store.check_schema()
                with self.store.read() as connection:
                    ready = connection.execute(select(workers.c.engine_pid)).first()
                if ready is not None and url.exists():
                    self.redis = redis.Redis.from_url(url.read_text().strip())
                    return
            time.sleep(0.1)
        raise DemoFailed("the service did not come up within 60 s")
