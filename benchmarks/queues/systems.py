"""What the benchmark asks of a system, and where that finds the world around it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

WORKERS: Final = 2
"""Each with one device, which draws one job at a time."""


@dataclass(frozen=True)
class Surroundings:
    """What one trial has for itself."""

    folder: Path
    database_url: str
    receiver_url: str
    picture_url: str
    picture_host: str
    steps: int
    step_seconds: float


class System(Protocol):
    """One queue with its workers. Only `push` is called from another thread than the main one."""

    def push(self, job_id: str) -> None:
        """Hand one job in; return when it was accepted."""

    def look(self) -> None:
        """Have what has died started again, where nothing of the system's own does that."""

    def kill(self, worker: int) -> None:
        """SIGKILL for that worker, if it lives."""

    def steps(self) -> Iterator[tuple[str, int]]:
        """Every drawing step that was made, as job and number, as often as it was made."""

    def close(self) -> None:
        """Leave nothing running."""
