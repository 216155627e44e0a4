"""One process that `up` keeps running, and what it tells of itself."""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import structlog

from ourvidz.processes.condition import Condition, FromChild

FIRST_BACKOFF: Final = 0.2
LONGEST_BACKOFF: Final = 30.0
SETTLED_SECONDS: Final = 20.0
"""Who lived so long is started again at once when it dies."""
STARTING_SECONDS: Final = 180.0
"""Within this a process says how it is for the first time."""
SILENT_SECONDS: Final = 30.0
"""And then again within this; it does so each second."""

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
    channel: FromChild | None = None
    told: Condition | None = None
    told_at: float = 0.0
    mourn: Callable[[str, int], None] | None = None
    """Told of a worker that died: its name, and its return code."""

    def look(self, now: float) -> None:
        """Start it where it is not running and its backoff is over; hear what it tells."""
        if self.process is not None:
            code = self.process.poll()
            self.hear(now)
            if code is None:
                return
            self.bury(code)
            wait = self._failed(now, settled=now - self.started_at > SETTLED_SECONDS)
            log.warning("process ended: it is started again", process=self.name, code=code, seconds=wait)
            self.process = None
        if now >= self.not_before:
            self._start(now)

    def hear(self, now: float) -> None:
        """Take in what it has told."""
        told = None if self.channel is None else self.channel.heard()
        if told is not None:
            self.told, self.told_at = told, now

    def bury(self, code: int) -> None:
        """It has ended: where it held leases and may hold them still, have them handed back."""
        if code != 0 and self.mourn is not None and self.told is not None and self.told.worker is not None:
            self.mourn(self.told.worker, code)

    def condition(self, now: float) -> Condition:
        """How it is, as far as one knows here."""
        told = self.told
        if self.process is None:
            return Condition(unready=[f"{self.name} does not run"])
        since, limit = (self.started_at, STARTING_SECONDS) if told is None else (self.told_at, SILENT_SECONDS)
        if now - since > limit:
            return Condition(still=[f"{self.name} is silent for {now - since:.0f} s, its limit is {limit:g} s"])
        if told is None:
            return Condition(unready=[f"{self.name} is starting"])
        return Condition(
            still=[f"{self.name}: {why}" for why in told.still],
            unready=[f"{self.name}: {why}" for why in told.unready],
            status=f"{self.name}: {told.status}" if told.status else "",
        )

    def _start(self, now: float) -> None:
        if self.channel is not None:
            self.channel.close()
        self.channel, self.told = FromChild(), None
        command = [sys.executable, "-m", "ourvidz.processes", *self.arguments, "--parent", str(os.getpid())]
        try:
            self.process = self.start(
                [*command, "--tell", str(self.channel.descriptor)],
                env=dict(self.environment),
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                pass_fds=(self.channel.descriptor,),
            )
        except OSError as error:  # no memory, no descriptors, no processes left: perhaps later
            wait = self._failed(now, settled=False)
            log.error("process cannot be started", process=self.name, reason=str(error), again_in=wait)
            return
        self.channel.begun()
        self.started_at = now
        log.info("process started", process=self.name, pid=self.process.pid)

    def _failed(self, now: float, *, settled: bool) -> float:
        """Count it, unless it had settled, and return the seconds until the next start."""
        self.failures = 0 if settled else self.failures + 1
        wait = 0.0 if settled else min(FIRST_BACKOFF * 2.0 ** min(self.failures - 1, 16), LONGEST_BACKOFF)
        self.not_before = now + wait
        return wait


def together(conditions: list[Condition]) -> Condition:
    """As ready as the least ready, as live as the least alive."""
    return Condition(
        still=[why for condition in conditions for why in condition.still],
        unready=[why for condition in conditions for why in condition.unready],
        status="; ".join(condition.status for condition in conditions if condition.status),
    )
