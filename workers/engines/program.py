"""Another program run by the engine: heard while it runs, and ended with all that it started. Imports no torch."""

import os
import re
import selectors
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import IO, Final, Self

GRACE_SECONDS: Final = 5.0
"""Between SIGTERM and SIGKILL."""

LOOK_SECONDS: Final = 0.1
"""How often one looks after a program that says nothing."""

KEPT_LINES: Final = 40
_LONGEST: Final = 1000
_CHUNK: Final = 1 << 16
_GIB: Final = 1024**3
_BREAKS: Final = re.compile(rb"[\r\n]")  # progress bars are redrawn after a carriage return


@dataclass(frozen=True, slots=True)
class Ended:
    """How a program has ended. `code` is negative for a signal; `peak_rss_gb` of the largest process in it."""

    code: int
    seconds: float
    peak_rss_gb: float

    def __str__(self) -> str:
        if self.code >= 0:
            return f"ended with exit code {self.code}"
        try:
            return f"was killed by {signal.Signals(-self.code).name}"
        except ValueError:
            return f"was killed by signal {-self.code}"  # most real-time signals have no name


class Program:
    """One run of a program, as a context: where it is left, the program and all its children have ended.

    They end with this process too, however that ends: see `workers.engines.leash`.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], *, grace: float = GRACE_SECONDS) -> None:
        """Start it. `grace` is how long it may take to end by itself once it is asked to."""
        self.errors: deque[str] = deque(maxlen=KEPT_LINES)
        self.output: deque[str] = deque(maxlen=KEPT_LINES)
        self.ended: Ended | None = None
        self._grace = grace
        self._since = time.monotonic()
        held, self._lifeline = os.pipe()
        try:
            self._leash = subprocess.Popen(
                [sys.executable, "-m", "workers.engines.leash", str(held), str(grace), *command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=(held,),
                env=dict(environment),
                start_new_session=True,  # a Ctrl-C at the terminal is not for it
            )
        except BaseException:
            os.close(self._lifeline)
            raise
        finally:
            os.close(held)

    @property
    def seconds(self) -> float:
        """Since its start."""
        return time.monotonic() - self._since

    def lines(self) -> Iterator[str]:
        """Yield what it writes to standard error, line by line as it comes, and "" now and then while it is silent.

        A line that has not ended yet is told too, and again when it has: a progress bar ends its line only when it is
        drawn anew. Ends when the program has ended. The last whole lines are kept in `errors` and `output`.
        """
        with selectors.DefaultSelector() as selector:
            rests: dict[int, bytes] = {}
            for stream in self._streams:
                os.set_blocking(stream.fileno(), False)
                selector.register(stream, selectors.EVENT_READ)
                rests[stream.fileno()] = b""
            while True:
                over = self._is_over()
                ready = selector.select(0.0 if over else LOOK_SECONDS)
                if over and not ready:
                    break  # whoever else holds the pipes is not waited for
                heard = False
                for key, _ in ready:
                    data = os.read(key.fd, _CHUNK)
                    if not data:
                        selector.unregister(key.fileobj)
                        data = b"\n"
                    *whole, rest = _BREAKS.split(rests[key.fd] + data)
                    rests[key.fd] = rest[-_LONGEST:]
                    for line in filter(None, (_text(part) for part in whole)):
                        if key.fileobj is self._leash.stderr:
                            self.errors.append(line)
                            heard = True
                            yield line
                        else:
                            self.output.append(line)
                    if rest and key.fileobj is self._leash.stderr:
                        heard = True
                        yield _text(rest)
                if not heard:
                    yield ""

    @property
    def _streams(self) -> list[IO[bytes]]:
        return [stream for stream in (self._leash.stdout, self._leash.stderr) if stream is not None]

    def _is_over(self) -> bool:
        return os.waitid(os.P_PID, self._leash.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        """End what still runs, and tell how it ended in `ended`."""
        if not self._is_over():
            os.kill(self._leash.pid, signal.SIGTERM)
            os.waitid(os.P_PID, self._leash.pid, os.WEXITED | os.WNOWAIT)  # the leash sees to it
        with suppress(PermissionError):  # macOS, where nobody but the dead leash is left in the group
            os.killpg(self._leash.pid, signal.SIGKILL)  # Linux finds somebody there only if the leash was killed
        status, used = os.wait4(self._leash.pid, 0)[1:]
        self._leash.returncode = code = os.waitstatus_to_exitcode(status)
        self.ended = Ended(code, self.seconds, used.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / _GIB)
        os.close(self._lifeline)
        for stream in self._streams:
            stream.close()


def _text(line: bytes) -> str:
    return line.decode("utf-8", "replace").strip()[:_LONGEST]
