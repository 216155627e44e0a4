"""`ourvidz up`: ingress, one worker a device and a supervisor, each a process; what dies is started again."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import structlog
from pydantic import SecretStr

from ourvidz import layers, wiring
from ourvidz.migrate import upgrade
from ourvidz.processes.holding import hold
from ourvidz.processes.lifelines import Stop
from ourvidz.processes.valkey import EmbeddedValkey
from ourvidz.settings import Settings

LOOK_SECONDS: Final = 0.25
FIRST_BACKOFF: Final = 0.2
LONGEST_BACKOFF: Final = 30.0
SETTLED_SECONDS: Final = 20.0
"""Who lived so long is started again at once when it dies."""
FAREWELL_SECONDS: Final = 40.0

log = structlog.get_logger()


@dataclass
class Child:
    """One process that is to run, and how often it did not."""

    name: str
    arguments: list[str]
    environment: Mapping[str, str]
    process: subprocess.Popen[bytes] | None = None
    failures: int = 0
    started_at: float = 0.0
    not_before: float = 0.0
    start: Callable[..., "subprocess.Popen[bytes]"] = subprocess.Popen

    def look(self, now: float) -> None:
        """Start it where it is not running and its backoff is over."""
        if self.process is not None:
            code = self.process.poll()
            if code is None:
                return
            wait = self._failed(now, settled=now - self.started_at > SETTLED_SECONDS)
            log.warning("process ended: it is started again", process=self.name, code=code, seconds=wait)
            self.process = None
        if now >= self.not_before:
            command = [sys.executable, "-m", "ourvidz.processes", *self.arguments, "--parent", str(os.getpid())]
            try:
                self.process = self.start(
                    command, env=dict(self.environment), stdin=subprocess.DEVNULL, start_new_session=True
                )
            except OSError as error:  # no memory, no descriptors, no processes left: perhaps later
                wait = self._failed(now, settled=False)
                log.error("process cannot be started", process=self.name, reason=str(error), again_in=wait)
                return
            self.started_at = now
            log.info("process started", process=self.name, pid=self.process.pid)

    def _failed(self, now: float, *, settled: bool) -> float:
        """Count it, unless it had settled, and return the seconds until the next start."""
        self.failures = 0 if settled else self.failures + 1
        wait = 0.0 if settled else min(FIRST_BACKOFF * 2.0 ** min(self.failures - 1, 16), LONGEST_BACKOFF)
        self.not_before = now + wait
        return wait


def main(settings: Settings) -> int:
    """Run everything on this host until told to stop. Raises SettingsError where another `up` has the data folder."""
    held = hold(settings.data_dir)
    valkey = None
    redis_url = settings.redis_url
    if redis_url is None:
        valkey = EmbeddedValkey(settings.data_dir / "valkey", held=held)
        redis_url = valkey.start()
        log.info("embedded Valkey up", url_in=str(settings.data_dir / "valkey" / "url"))
    stop = Stop().listen()  # not before: it starts a thread, and until here there is nothing that must end in order
    before, after = upgrade(settings.database_url)
    if before != after:
        log.info("database upgraded", before=before, after=after)
    environment = child_environment(settings, redis_url)
    children = [Child("ingress", ["ingress"], environment), Child("supervisor", ["supervisor"], environment)]
    children += [
        Child(f"worker {device}", ["worker", "--device", device], environment) for device in wiring.devices(settings)
    ]
    code = 0
    try:
        while not stop.draining.is_set():
            now = time.monotonic()
            for child in children:
                child.look(now)
            if valkey is not None and not valkey.running:
                log.error("the embedded Valkey has died: stopping, so that whoever started us starts all again")
                code = 1
                break
            stop.draining.wait(LOOK_SECONDS)
    finally:
        _stop(children, stop)
        if valkey is not None:
            valkey.stop()
        os.close(held)
    log.info("all down")
    return code


def _stop(children: list[Child], stop: Stop) -> None:
    """Let each child drain; who does not within the time, or at a second signal, is killed."""
    running = [child.process for child in children if child.process is not None and child.process.poll() is None]
    for process in running:
        process.terminate()
    until = time.monotonic() + FAREWELL_SECONDS
    hurried = False
    while any(process.poll() is None for process in running) and time.monotonic() < until:
        if stop.now.is_set() and not hurried:
            hurried = True
            until = time.monotonic() + 5.0
            for process in running:
                process.terminate()
        time.sleep(0.05)
    for process in running:
        if process.poll() is None:
            log.warning("killed: it did not stop in time", pid=process.pid)
            process.kill()
        process.wait()


def child_environment(settings: Settings, redis_url: str | None) -> dict[str, str]:
    """The environment in which a child finds these settings and no others, wherever ours came from.

    What is None here is None there: no variable of ours is handed on, and no settings file is read.
    """
    known = {*layers.VARIABLES, *(layers.variable(name) + "_FILE" for name in layers.FROM_FILES)}
    environment = {
        name: value for name, value in os.environ.items() if name not in known and not name.startswith(layers.PREFIX)
    }
    environment[layers.CONFIG] = os.devnull  # an empty file is valid TOML; unnamed, one in the folder would be read
    values = {name: getattr(settings, name) for name in type(settings).model_fields}
    for name, value in {**values, "redis_url": redis_url}.items():
        if value is None or name.startswith("upstash_"):  # redis_url has been made of them
            continue
        plain = value.get_secret_value() if isinstance(value, SecretStr) else value
        environment[layers.variable(name)] = str(plain).lower() if isinstance(plain, bool) else str(plain)
    return environment
