"""One engine process from its start to its death: pipes, limits, last words. Imports no torch."""

import logging
import os
import selectors
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from workers.engines.config import EngineConfig, Start
from workers.engines.messages import (
    MAX_MESSAGE,
    PAUSED,
    Alive,
    Cancel,
    Enhanced,
    Failed,
    Generated,
    Loaded,
    Message,
    Moved,
    Ready,
    Started,
    ToEngine,
    frame,
    from_engine,
)
from workers.lifeline import signal_name
from workers.outstanding import Hang, Outstanding, hang

log = logging.getLogger(__name__)

LAST_LINES: Final = 20
"""Lines of standard error that are kept."""

TOLD_LINES: Final = 3
"""Of these, what goes into the history."""

_CHUNK: Final = 1 << 16
_LOOK_SECONDS: Final = 0.05

OBEY_SECONDS: Final = 30.0
"""How long a request that was cancelled may stay on the device, whatever it says; loading a model is not counted."""

KILLED_SECONDS: Final = 3.0
"""How long a killed process may take to end before those who wait for its answers are told."""

# What a Python process on a device needs. Secrets have names that nobody foresees, so what is not here is not passed.
_PASSED: Final = frozenset(
    {
        "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR", "TMP", "TEMP", "VIRTUAL_ENV",
        "HF_HOME", "HF_HUB_CACHE",
    }
)  # fmt: skip
_PASSED_PREFIXES: Final = (
    "LC_", "LD_", "DYLD_", "XDG_", "PYTHON", "COVERAGE_", "SSL_", "MALLOC_",
    "CUDA_", "CUDNN_", "CUBLAS_", "NVIDIA_", "NCCL_", "HIP_", "HSA_", "ROCR_", "TORCH_", "PYTORCH_", "TRITON_",
    "OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS_", "NUMEXPR_",
)  # fmt: skip


class Child:
    """A running process. `watch` belongs to the thread that made it; `send` and `register` to any."""

    def __init__(self, config: EngineConfig, wake: int, *, obey_seconds: float = OBEY_SECONDS) -> None:
        """Start the process. `wake` is a non-blocking pipe's reading end that interrupts `watch`."""
        self.config = config
        self.obey_seconds = obey_seconds
        self.ready: Ready | None = None
        self.resident: frozenset[str] = frozenset()
        self.lines: deque[str] = deque(maxlen=LAST_LINES)
        self.outstanding: dict[str, Outstanding] = {}
        self.closing = False
        self._wake = wake
        self._lock = threading.Lock()
        self._hung: str | None = None
        self._guilty: Outstanding | None = None
        self._killed_at = 0.0
        self._kills = oom_kills()
        pipes: list[int] = []
        try:
            for _ in range(3):
                pipes += os.pipe()
            requests, self._requests, self._answers, answers, self._log, log_end = pipes
            start = Start(config=config, parent=os.getpid(), requests=requests, answers=answers)
            self.process = subprocess.Popen(
                [sys.executable, "-m", "workers.engines.process", start.to_json()],
                stdin=subprocess.DEVNULL,
                stdout=log_end,
                stderr=log_end,
                pass_fds=(requests, answers),
                env=environment(os.environ),
            )
        except BaseException:
            for descriptor in pipes:
                os.close(descriptor)
            raise
        for descriptor in (requests, answers, log_end):
            os.close(descriptor)
        self._since = self._last = time.monotonic()

    def register(self, request_id: str) -> Outstanding:
        """Expect answers to a request. Raises ValueError for an id that is with the process already."""
        if request_id in self.outstanding:
            raise ValueError(f"request {request_id} is with the engine already")
        outstanding = Outstanding(request_id, time.monotonic(), self.config.hang_limit)
        self.outstanding[request_id] = outstanding
        return outstanding

    def send(self, message: ToEngine) -> None:
        """Send one message whole. A process that no longer listens is told of by `watch`, not here."""
        data = memoryview(frame(message))
        with self._lock:
            try:
                while data and self._requests >= 0:
                    data = data[os.write(self._requests, data) :]
            except BrokenPipeError:
                log.debug("engine process %d no longer listens", self.process.pid)

    def withdraw(self, outstanding: Outstanding, *, keep: bool = False) -> None:
        """Cancel a request, with `keep` after a checkpoint.

        One that is not on the device has its last word at once; the process throws it away.
        """
        if outstanding.started:
            outstanding.cancelled_at = outstanding.cancelled_at or time.monotonic()
        elif self.outstanding.pop(outstanding.request_id, None) is not None:
            word = Failed(
                request_id=outstanding.request_id,
                error_class="cancelled",
                error_type=PAUSED if keep else "Cancelled",
                message="Cancelled before the device took it up",
            )
            outstanding.answers.put(word)
        self.send(Cancel(request_id=outstanding.request_id, keep=keep))

    def watch(self, on_ready: Callable[[], None]) -> None:
        """Deliver messages until the process is dead and reaped. Kills it when a limit is passed.

        A killed process that does not end, or whose pipe somebody else holds, is left to itself after a while.
        """
        buffer = bytearray()
        words = bytearray()
        with selectors.DefaultSelector() as selector:
            for descriptor in (self._answers, self._log, self._wake):
                selector.register(descriptor, selectors.EVENT_READ)
            speaking = True
            while speaking:
                ready = selector.select(self._patience())
                for key, _ in ready:
                    data = os.read(key.fd, _CHUNK)
                    if key.fd == self._log:
                        self._note(words, data)
                        if not data:
                            selector.unregister(self._log)
                    elif key.fd == self._answers:
                        buffer += data
                        speaking = bool(data) and self._deliver(buffer, on_ready)
                if self._hung is not None:
                    speaking = speaking and not self._over(quiet=not ready)
                    continue
                due = self._deadline()
                if due is not None and time.monotonic() >= due.at:
                    self._hung, self._guilty = due.words, due.guilty
                    self._killed_at = time.monotonic()
                    self.process.kill()
        self._reap(words)

    def blameless(self, outstanding: Outstanding) -> bool:
        """The process was killed for what another request did, or did not do."""
        return self._guilty is not None and self._guilty is not outstanding

    def death(self) -> tuple[str, str]:
        """Reason and detail, once `watch` has returned."""
        code = self.process.returncode
        said = "; ".join(list(self.lines)[-TOLD_LINES:])
        if self._hung is not None:
            return "engine hung", self._hung
        if self.closing:
            return "engine stopped", "the worker closed it"
        if code >= 0:
            return "engine crashed", f"exit code {code}{': ' if said else ''}{said}"
        name = signal_name(-code)
        if name == "SIGKILL" and oom_kills() > self._kills:
            return "engine out of memory", "killed by the kernel for memory (SIGKILL)"
        if name in ("SIGKILL", "SIGTERM"):
            return "engine crashed", f"killed by {name}"  # from outside: what it said before is not the reason
        return "engine crashed", f"killed by {name}{': ' if said else ''}{said}"

    def _patience(self) -> float | None:
        """Seconds until there is something to do though nobody speaks."""
        if self._hung is not None:
            return _LOOK_SECONDS
        due = self._deadline()
        return None if due is None else max(0.0, due.at - time.monotonic())

    def _over(self, *, quiet: bool) -> bool:
        """Nothing more is to be heard from the process, which was killed for its silence."""
        dead = self.process.poll() is not None
        return (dead and quiet) or time.monotonic() - self._killed_at > KILLED_SECONDS

    def _deadline(self) -> Hang | None:
        if self.ready is None:
            seconds = self.config.start_seconds
            return Hang(self._since + seconds, f"not ready {seconds:g} s after its start", None)
        return hang([*self.outstanding.values()], self.config, self._last, obey_seconds=self.obey_seconds)

    def _deliver(self, buffer: bytearray, on_ready: Callable[[], None]) -> bool:
        """Hand on every whole message in the buffer. False when the process no longer speaks our language."""
        while len(buffer) >= 4:
            length = int.from_bytes(buffer[:4], "big")
            if length > MAX_MESSAGE:
                self._broken(f"it announced a message of {length} bytes")
                return False
            if len(buffer) < 4 + length:
                return True
            body = bytes(buffer[4 : 4 + length])
            del buffer[: 4 + length]
            try:
                message = from_engine.decode(body)
            except ValueError as error:  # msgspec's errors are ValueErrors
                self._broken(f"it sent what is no message: {error}")
                return False
            self._receive(message, on_ready)
        return True

    def _broken(self, why: str) -> None:
        self.lines.append(why)
        self.process.kill()

    def _receive(self, message: Message, on_ready: Callable[[], None]) -> None:
        self._last = time.monotonic()
        if isinstance(message, Ready):
            self.ready = message
            on_ready()
            return
        if isinstance(message, Loaded):
            self.resident |= {message.model}
        elif isinstance(message, Moved) and message.to == "released":
            self.resident -= {message.model}
        outstanding = self.outstanding.get(getattr(message, "request_id", None) or "")
        if outstanding is None:
            return  # an answer to one that was given up
        doing = message.doing if isinstance(message, Alive) else "working"
        outstanding.does(doing, self._last, self.config)
        if isinstance(message, Started):
            outstanding.begun = self._last
        elif isinstance(message, Generated | Enhanced | Failed):
            del self.outstanding[outstanding.request_id]
        outstanding.answers.put(message)  # type: ignore[arg-type]  # Ready, the only other kind, went above

    def _note(self, words: bytearray, data: bytes) -> None:
        words += data
        *whole, rest = bytes(words).split(b"\n")
        words[:] = rest[-1000:]
        for line in whole:
            text = line.decode("utf-8", "replace").strip()[:500]
            if text:
                self.lines.append(text)
                log.debug("engine process %d: %s", self.process.pid, text)

    def _reap(self, words: bytearray) -> None:
        """Wait for the end of a process whose answers have ended, and collect its last words."""
        try:
            self.process.wait(5.0)
        except subprocess.TimeoutExpired:
            self._hung = self._hung or "it closed its pipe and did not end"
            self.process.kill()
            try:
                self.process.wait(KILLED_SECONDS)
            except subprocess.TimeoutExpired:  # in the kernel, on a device that does not answer: it keeps its lock
                log.error("engine process %d was killed and does not end", self.process.pid)
        os.set_blocking(self._log, False)
        try:
            while data := os.read(self._log, _CHUNK):
                self._note(words, data)
        except BlockingIOError:
            log.debug("somebody else still holds the engine process's standard error")
        self._note(words, b"\n")
        with self._lock:
            os.close(self._requests)
            self._requests = -1
        os.close(self._answers)
        os.close(self._log)


def environment(ours: Mapping[str, str]) -> dict[str, str]:
    """What of our environment an engine process gets: it has no use for anybody's secrets."""
    return {name: value for name, value in ours.items() if name in _PASSED or name.startswith(_PASSED_PREFIXES)}


def oom_kills() -> int:
    """How often the kernel has killed for memory since it booted; 0 where it does not tell."""
    counters = Path("/proc/vmstat")
    if not counters.is_file():
        return 0
    lines = counters.read_text(encoding="ascii").splitlines()
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)
