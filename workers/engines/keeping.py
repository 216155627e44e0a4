"""The checkpoints of one request: found again at its beginning, written while it goes on.

Files are written by a thread of their own, one at a time, since the device must not wait for a disk.
"""

import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from workers.engines.checkpoints import Saved, Unusable
from workers.engines.messages import CheckpointDiscarded, CheckpointWritten, Generate, Message
from workers.spool import sha256, write_durably


class Keeper:
    """`Generate.checkpoint_seconds` apart, 0 being after every step; nothing is kept where that is None."""

    def __init__(self, request: Generate, say: Callable[[Message], None]) -> None:
        self._request = request
        self._say = say
        self._last = time.monotonic()
        self._writing: threading.Thread | None = None
        self._trouble: OSError | None = None
        self._every = request.checkpoint_seconds
        self._found: bytes | None = None
        self._saved: Saved | None = None
        self._used = False
        if request.resume_from is not None:
            self._found = self._read(request.resume_from)

    def find(self, identity: Mapping[str, Any], part: str) -> Saved | None:
        """The checkpoint to go on from, if it is one of this very work and of this part of its batch.

        One that is not is told of, once; one of another part waits for it.
        """
        if self._found is not None:
            try:
                self._saved = Saved.unpack(self._found, identity)
            except Unusable as error:
                self._discard(str(error))
            self._found = None  # read once, however often it is asked for
        if self._saved is None or self._saved.part != part:
            return None
        self._used = True
        return self._saved

    def end(self) -> None:
        """Tell of a checkpoint that waited for its part in vain: the batch was composed otherwise this time."""
        if (self._found is not None or self._saved is not None) and not self._used:
            self._discard("the batch was drawn in other parts")

    def due(self, *, at_once: bool = False) -> bool:
        """Whether the state after this step is to be kept. Not while the last one is still being written.

        `at_once`: it is the last that there will be, so no interval is waited for.

        Raises OSError when the last one could not be written: the pictures will not find room either.
        """
        if self._trouble is not None:
            raise self._trouble
        if at_once:
            return self._every is not None
        busy = self._writing is not None and self._writing.is_alive()
        return self._every is not None and not busy and time.monotonic() - self._last >= self._every

    def keep(self, saved: Saved) -> None:
        """Write it and say so, from another thread."""
        self.wait()
        self._last = time.monotonic()
        self._writing = threading.Thread(target=self._write, args=(saved,), name="checkpoint", daemon=True)
        self._writing.start()

    def stop(self, why: str) -> None:
        """Keep nothing from now on; the run goes on without."""
        self._every = None
        sys.stderr.write(f"no checkpoints are kept: {why}\n")

    def wait(self) -> None:
        """Until what was begun is written and said: nothing of it may come after the request's last word."""
        if self._writing is not None:
            self._writing.join()
            self._writing = None

    def _write(self, saved: Saved) -> None:
        name = f"checkpoint_{saved.part}_{saved.step}.safetensors"
        data = saved.pack()
        try:
            write_durably(Path(self._request.spool) / name, data)
        except OSError as error:
            self._trouble = error
            return
        said: Message = CheckpointWritten(
            request_id=self._request.request_id,
            step=saved.step,
            of=saved.of,
            name=name,
            digest=sha256(data),
            device_seconds=saved.seconds,
        )
        self._say(said)

    def _read(self, name: str) -> bytes | None:
        try:
            return (Path(self._request.spool) / name).read_bytes()
        except OSError as error:
            self._discard(f"it cannot be read: {error.strerror}")
            return None

    def _discard(self, why: str) -> None:
        name = self._request.resume_from or ""
        self._say(CheckpointDiscarded(request_id=self._request.request_id, name=name, why=why))
