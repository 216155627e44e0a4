"""The inside of an engine process: one thread reads, one works the device, one encodes.

The reader takes requests and cancellations at any time, so the next request lies ready when the device is free.
What a drawing leaves to do (encode, write) goes to the encoder, and the device takes the next request meanwhile.
Of one request the answers keep their order, since the encoder begins where the device has stopped speaking.
"""

import os
import queue
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from typing import Any, Final, Protocol

from workers.engines.config import EXIT_DEVICE_LOST
from workers.engines.faults import Asked, Cancelled, Paused, device_is_lost, failed
from workers.engines.messages import (
    MAX_MESSAGE,
    Alive,
    Cancel,
    Enhance,
    Enhanced,
    Generate,
    Message,
    Shutdown,
    Started,
    ToEngine,
    frame,
    to_engine,
)

ENCODING: Final = 2
"""Requests that may wait for the encoder; each holds its pixels in memory."""

Say = Callable[[Message], None]


class Drawer(Protocol):
    """What works the device."""

    def draw(self, request: Generate, say: Say, cancelled: Callable[[], Asked]) -> Callable[[], None]:
        """Work on the device; return what is left to do off it, ending in Generated. Raises what `faults` knows."""


class Enhancer(Protocol):
    """What enhances prompts."""

    def enhance(self, request: Enhance, say: Say, cancelled: Callable[[], bool]) -> Enhanced:
        """Answer one prompt. Raises what `faults` knows."""


def frames(descriptor: int) -> Iterator[bytes]:
    """Yield the bodies of framed messages until the pipe's end. Raises ValueError for a length beyond the limit."""
    with os.fdopen(descriptor, "rb", closefd=False) as stream:
        while len(head := stream.read(4)) == 4:
            length = int.from_bytes(head, "big")
            if length > MAX_MESSAGE:
                raise ValueError(f"a message of {length} bytes; the limit is {MAX_MESSAGE}")
            body = stream.read(length)
            if len(body) < length:
                return
            yield body


class Server:
    """Serves one parent over two file descriptors. `end` is called with an exit code where the process must end."""

    def __init__(
        self, drawer: Drawer, enhancer: Enhancer, requests: int, answers: int, end: Callable[[int], Any]
    ) -> None:
        self._drawer = drawer
        self._enhancer = enhancer
        self._requests = requests
        self._answers = answers
        self._end = end
        self._speaking = threading.Lock()
        self._waiting: queue.SimpleQueue[Generate | Enhance | None] = queue.SimpleQueue()
        self._encoding: queue.Queue[tuple[str, Callable[[], None]] | None] = queue.Queue(ENCODING)
        self._known: set[str] = set()
        self._asked: dict[str, Asked] = {}
        self._stopping = threading.Event()

    def say(self, message: Message) -> None:
        """Send one message whole. Thread-safe. A parent that is gone ends the process."""
        data = memoryview(frame(message))
        with self._speaking:
            try:
                while data:
                    data = data[os.write(self._answers, data) :]
            except BrokenPipeError:
                self._end(0)

    def serve(self) -> None:
        """Work on the calling thread, which becomes the device's, until Shutdown; everything begun is then said."""
        threading.Thread(target=self._read, name="requests", daemon=True).start()
        encoder = threading.Thread(target=self._encode, name="encoder", daemon=True)
        encoder.start()
        while (request := self._waiting.get()) is not None and not self._stopping.is_set():
            self._work(request)
        self._encoding.put(None)
        encoder.join()

    def _read(self) -> None:
        """Take messages until the parent is gone, in a hurry, or broken; each of them ends the process."""
        try:
            for body in frames(self._requests):
                if not self._take(to_engine.decode(body)):
                    break
        except ValueError as error:  # msgspec's errors are ValueErrors
            sys.stderr.write(f"the parent sent what is no message: {error}\n")
            self._end(1)
        self._end(0)

    def _take(self, message: ToEngine) -> bool:
        match message:
            case Generate() | Enhance():
                self._known.add(message.request_id)
                self._waiting.put(message)
            case Cancel():
                if message.request_id in self._known:
                    keep = message.keep and self._asked.get(message.request_id) is not True
                    self._asked[message.request_id] = "keep" if keep else True
            case Shutdown():
                if self._stopping.is_set():
                    return False
                self._stopping.set()
                self._waiting.put(None)
        return True

    def _work(self, request: Generate | Enhance) -> None:
        request_id = request.request_id
        try:
            if request_id in self._asked:
                raise Cancelled
            self.say(Started(request_id=request_id))
            if isinstance(request, Enhance):
                self.say(self._enhancer.enhance(request, self.say, lambda: request_id in self._asked))
                self._forget(request_id)
                return
            left = self._drawer.draw(request, self.say, lambda: self._asked.get(request_id, False))
        except Exception as error:  # noqa: BLE001 - whatever a request meets is its own failure; the engine goes on
            self._fail(request_id, error)
            self._forget(request_id)
        else:
            self._encoding.put((request_id, left))

    def _encode(self) -> None:
        while (work := self._encoding.get()) is not None:
            request_id, left = work
            self.say(Alive(request_id=request_id, doing="encoding"))
            try:
                left()
            except Exception as error:  # noqa: BLE001 - as in _work
                self._fail(request_id, error)
            self._forget(request_id)
            del work, left  # they hold the pixels

    def _fail(self, request_id: str, error: Exception) -> None:
        """Answer, unless the device is lost: then every later request would fail too, and the process ends."""
        if isinstance(error, Cancelled) and self._asked.get(request_id) == "keep":
            error = Paused()
        if not device_is_lost(error):
            self.say(failed(request_id, error))
            return
        sys.stderr.write("".join(traceback.format_exception(error)))
        said = str(error).partition("\n")[0] or type(error).__name__
        sys.stderr.write(f"the device is lost: {said}\n")  # the last lines go into the history
        sys.stderr.flush()
        self._end(EXIT_DEVICE_LOST)

    def _forget(self, request_id: str) -> None:
        self._known.discard(request_id)
        self._asked.pop(request_id, None)
