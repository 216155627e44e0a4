"""The engine process: `python -m workers.engines.process JSON`, started by `workers.engine_process` only.

The argument is a `Start`. Requests and answers travel over two inherited pipes; standard output and error are for
people, and the parent keeps their last lines. The process never outlives its parent: the kernel kills it when the
thread that started it ends (Linux), and everywhere the end of the request pipe ends it.
"""

import fcntl
import os
import re
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from workers.engines.config import EXIT_DEVICE_TAKEN, EXIT_MISCONFIGURED, EngineConfig, Start
from workers.engines.faults import Asked, Cancelled
from workers.engines.messages import (
    AssetWritten,
    CheckpointWritten,
    Enhance,
    Enhanced,
    Failed,
    Generate,
    Generated,
    Message,
    Progress,
    Ready,
)
from workers.engines.null import NullEngine
from workers.engines.serving import Server
from workers.errors import Misconfigured, StageEnds
from workers.lifeline import die_with_parent
from workers.spool import DiskSpool

ENVIRONMENT: Final = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "DIFFUSERS_VERBOSITY": "error",  # its warnings quote prompts, and the last lines of stderr may go into the history
    "TQDM_DISABLE": "1",
    "OMP_WAIT_POLICY": "PASSIVE",  # threads that spin for each other take five times as long on a busy machine
    "TOKENIZERS_PARALLELISM": "false",
    "CUBLAS_WORKSPACE_CONFIG": ":16:8",  # before the first CUDA call, or cuBLAS is not repeatable
}


class JobFolder(DiskSpool):
    """The spool folder that a request names, whatever the job is called."""

    def folder(self, job_id: str) -> str:
        """Always the one folder."""
        return str(self.root)

    def read(self, job_id: str, name: str, digest: str) -> bytes:
        """From the one folder."""
        return super().read("", name, digest)


class NullDrawer:
    """The null engine behind the same door as a real one."""

    def __init__(self, config: EngineConfig) -> None:
        self.engine = NullEngine(step_seconds=config.step_seconds, embed_prompt=config.embed_prompt)

    def draw(
        self, request: Generate, say: Callable[[Message], None], cancelled: Callable[[], Asked]
    ) -> Callable[[], None]:
        """Say all but the last message here, and the last from the encoder."""
        folder = JobFolder(Path(request.spool))
        for message in self.engine.run(request, folder, lambda: cancelled() == "keep"):
            asked = cancelled()
            if asked == "keep" and isinstance(message, CheckpointWritten):
                say(message)
            if asked is True or (asked and not _goes_on(request, message)):
                raise Cancelled
            if isinstance(message, Generated | Failed):
                return partial(say, message)
            say(message)
        raise RuntimeError("the null engine ended without an answer")

    def enhance(self, request: Enhance, say: Callable[[Message], None], cancelled: Callable[[], bool]) -> Enhanced:
        """Answer one prompt."""
        (answer,) = self.engine.run(request, DiskSpool(Path()))
        if not isinstance(answer, Enhanced):
            raise TypeError(f"the null engine answered {answer!r}")
        return answer


def _goes_on(request: Generate, message: Message) -> bool:
    """Whether a request that is to be kept says this: its checkpoint is still to come, or its steps are over."""
    if isinstance(message, Progress):
        return request.checkpoint_seconds is not None
    return isinstance(message, AssetWritten | Generated | Failed)


def lock_device(config: EngineConfig) -> int:
    """Hold the device's lock until the process ends; return its descriptor. Raises BlockingIOError when it is taken.

    Waits `lock_seconds` for a dying predecessor. The null engine holds no device and locks nothing.
    """
    if config.engine == "null":
        return -1
    config.lock_dir.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(config.lock_dir / f"engine-{config.device_key.replace(':', '-')}.lock", os.O_RDWR | os.O_CREAT)
    deadline = time.monotonic() + config.lock_seconds
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() >= deadline:
                holder = os.pread(descriptor, 32, 0).decode().strip() or "unknown"
                raise BlockingIOError(
                    f"{config.device_key} is used by another engine process (pid {holder})"
                ) from error
            time.sleep(0.05)
        else:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
            return descriptor


def check_device(config: EngineConfig) -> None:
    """Raise Misconfigured for a device that no machine has, before seconds go into importing torch."""
    if not re.fullmatch(r"cpu|cuda(:\d+)?", config.device):
        raise Misconfigured(f"unknown device {config.device!r}; expected cpu, cuda or cuda:<number>")


def _null(start: Start) -> tuple[Server, Ready]:
    drawer = NullDrawer(start.config)
    ready = Ready(
        pid=os.getpid(),
        engine="null",
        device=start.config.device,
        device_name="null",
        threads=1,
        versions={"null": "1"},
        models={name: str(path) for name, path in start.config.models.items()},
        families=list(NullEngine.families),
        can_enhance=True,
    )
    return Server(drawer, drawer, start.requests, start.answers, os._exit), ready


def _diffusers(start: Start) -> tuple[Server, Ready]:
    from workers.engines.engine import DiffusersEngine  # imports torch, six seconds

    engine = DiffusersEngine(start.config)
    ready = Ready(
        pid=os.getpid(),
        engine=engine.host.engine,
        device=engine.host.device,
        device_name=engine.host.device_name,
        threads=engine.host.threads,
        versions=engine.host.versions,
        models={name: str(path) for name, path in start.config.models.items()},
        families=engine.families,
        can_enhance=engine.can_enhance,
    )
    return Server(engine, engine, start.requests, start.answers, os._exit), ready


def main() -> None:
    """Serve until told to end. Exit codes: 0, EXIT_DEVICE_TAKEN, EXIT_MISCONFIGURED, or Python's 1 for a bug."""
    start = Start.from_json(sys.argv[1])
    die_with_parent(start.parent, signal.SIGKILL)
    for descriptor in (start.requests, start.answers):
        os.set_inheritable(descriptor, False)  # a grandchild that held them would hide our death
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides what it means
    os.environ.update(ENVIRONMENT)
    if start.config.threads is not None:
        os.environ["OMP_NUM_THREADS"] = str(start.config.threads)
    try:
        check_device(start.config)
        lock_device(start.config)
        server, ready = _null(start) if start.config.engine == "null" else _diffusers(start)
    except BlockingIOError as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(EXIT_DEVICE_TAKEN) from None
    except StageEnds as error:
        sys.stderr.write(f"{error.message}\n")
        raise SystemExit(EXIT_MISCONFIGURED) from None
    except ModuleNotFoundError as error:
        sys.stderr.write(f"{error.name} is not installed: pip install 'ourvidz[gpu]'\n")
        raise SystemExit(EXIT_MISCONFIGURED) from None
    server.say(ready)
    server.serve()
    sys.stderr.flush()
    os._exit(0)  # all is said: taking torch apart would cost the interpreter a second of CPU, with the device locked


if __name__ == "__main__":
    main()
