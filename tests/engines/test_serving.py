"""The threads inside the engine process, on pipes, with a drawer of the test's own."""

import os
import queue
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.engines.asking import request
from workers.engines.config import EXIT_DEVICE_LOST
from workers.engines.faults import Asked
from workers.engines.messages import (
    Cancel,
    Enhance,
    Enhanced,
    Failed,
    Generate,
    Generated,
    Message,
    Shutdown,
    Started,
    ToEngine,
    frame,
    from_engine,
)
from workers.engines.serving import Server, frames


class Gate:
    """A drawer whose drawing takes no time, and whose encoding waits to be let through."""

    def __init__(self) -> None:
        self.encode = threading.Event()

    def draw(
        self, request: Generate, say: Callable[[Message], None], cancelled: Callable[[], Asked]
    ) -> Callable[[], None]:
        if request.prompt == "boom":
            raise RuntimeError("boom")
        if request.prompt == "lost":
            raise RuntimeError("CUDA error: an illegal memory access was encountered\nCompile with DSA")

        def left() -> None:
            self.encode.wait()
            say(
                Generated(
                    request_id=request.request_id,
                    device_seconds=0.0,
                    engine="gate",
                    model_digest="",
                    memory={},
                    versions={},
                    threads=1,
                    batches=[1],
                )
            )

        return left

    def enhance(self, request: Enhance, say: Callable[[Message], None], cancelled: Callable[[], bool]) -> Enhanced:
        raise NotImplementedError("nobody asks it to enhance here")


class Line:
    """A server at the other end of two pipes."""

    def __init__(self) -> None:
        requests, self._to = os.pipe()
        self._from, answers = os.pipe()
        self.gate = Gate()
        self.ended: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._server = Server(self.gate, self.gate, requests, answers, self.ended.put)
        self._bodies = frames(self._from)
        self.thread = threading.Thread(target=self._server.serve, daemon=True)
        self.thread.start()

    def send(self, *messages: ToEngine) -> None:
        os.write(self._to, b"".join(frame(message) for message in messages))

    def send_raw(self, data: bytes) -> None:
        os.write(self._to, data)

    def hang_up(self) -> None:
        os.close(self._to)

    def until(self, kind: type[Message], request_id: str) -> list[Message]:
        seen: list[Message] = []
        while not (seen and isinstance(seen[-1], kind) and getattr(seen[-1], "request_id", None) == request_id):
            seen.append(from_engine.decode(next(self._bodies)))
        return seen


@pytest.fixture
def line() -> Iterator[Line]:
    one = Line()
    yield one
    one.gate.encode.set()
    one.send(Shutdown())
    one.thread.join()


def test_the_next_request_is_taken_up_while_the_last_one_is_encoded(line: Line, tmp_path: Path) -> None:
    """The device does not wait for PNGs: the second starts although the first can not have been finished."""
    first, second = request(tmp_path), request(tmp_path)
    line.send(first, second)
    assert not any(isinstance(message, Generated) for message in line.until(Started, second.request_id))
    line.gate.encode.set()
    line.until(Generated, first.request_id)
    line.until(Generated, second.request_id)


def test_a_request_cancelled_while_it_waits_never_starts(line: Line, tmp_path: Path) -> None:
    """And a cancellation that comes before its request, or for none, is nothing."""
    blockers = [request(tmp_path) for _ in range(4)]  # one encodes, two wait for the encoder, one holds the device
    waiting = request(tmp_path)
    line.send(Cancel(request_id=waiting.request_id), *blockers)
    line.until(Started, blockers[-1].request_id)
    line.send(waiting, Cancel(request_id=waiting.request_id), Cancel(request_id="nobody's"))
    line.gate.encode.set()
    said = line.until(Failed, waiting.request_id)
    assert isinstance(said[-1], Failed)
    assert said[-1].error_class == "cancelled"
    assert not any(isinstance(message, Started) and message.request_id == waiting.request_id for message in said)


def test_a_fault_is_the_request_s_own(line: Line, tmp_path: Path) -> None:
    bad, good = request(tmp_path, prompt="boom"), request(tmp_path)
    line.gate.encode.set()
    line.send(bad, good)
    failure = line.until(Failed, bad.request_id)[-1]
    assert isinstance(failure, Failed)
    assert (failure.error_class, failure.message) == ("permanent", "Generation failed: boom")
    assert failure.traceback is not None
    line.until(Generated, good.request_id)


def test_a_lost_device_ends_the_process(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """It would fail every later request; a death is an interruption, and the job goes on in the next process."""
    line = Line()
    line.send(request(tmp_path, prompt="lost"))
    assert line.ended.get(timeout=20) == EXIT_DEVICE_LOST
    assert capfd.readouterr().err.endswith("the device is lost: CUDA error: an illegal memory access was encountered\n")
    line.send(Shutdown())
    line.thread.join()


def test_the_end_of_the_pipe_ends_the_process(tmp_path: Path) -> None:
    """Whatever the device is doing."""
    line = Line()
    asked = request(tmp_path)
    line.send(asked)
    line.until(Started, asked.request_id)
    line.hang_up()
    assert line.ended.get(timeout=20) == 0


def test_a_parent_that_sends_nonsense_ends_the_process() -> None:
    line = Line()
    line.send_raw((5).to_bytes(4, "big") + b"nooo!")
    assert line.ended.get(timeout=20) == 1
