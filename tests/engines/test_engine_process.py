"""The process dies alone and is replaced; whoever waited for it hears why; none is ever left behind."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

import psutil
import pytest

from tests.engines.asking import Studio
from workers.engine_child import environment
from workers.engine_process import EngineProcess
from workers.engines.config import EXIT_DEVICE_TAKEN, EngineConfig, Start
from workers.engines.messages import (
    PAUSED,
    CheckpointWritten,
    Enhance,
    Enhanced,
    Failed,
    FromEngine,
    Generated,
    Moved,
    Progress,
    Started,
)
from workers.ports import EngineDied

PARENT = """
import sys, threading
from pathlib import Path
from tests.engines.asking import request
from workers.engine_process import EngineProcess
from workers.engines.config import EngineConfig
from workers.engines.messages import Progress

root = Path(sys.argv[1])
engine = EngineProcess(EngineConfig(engine="null", device="cpu", lock_dir=root / "locks", step_seconds=0.01))
for message in engine.run(request(root, steps=1_000_000)):
    if isinstance(message, Progress):
        print(engine.pid, flush=True)
"""


@pytest.fixture
def null(null_config: EngineConfig, tmp_path: Path) -> Iterator[Studio]:
    """A null engine of this test's own, slow enough to be killed at work."""
    engine = EngineProcess(replace(null_config, step_seconds=0.01, hang_seconds=1.0))
    yield Studio(engine, tmp_path)
    engine.close()


def until(answers: Iterator[FromEngine], step: int) -> None:
    """Read on until that step is done."""
    for message in answers:
        if isinstance(message, Progress) and message.step == step:
            return
    raise AssertionError(f"the answers ended before step {step}")


def test_a_killed_engine_is_replaced_and_draws_the_same_bytes(studio: Studio) -> None:
    """SIGKILL in the middle of denoising, on the real pipeline."""
    undisturbed = studio.ask(num_images=3).bytes()
    first = studio.engine.ready().pid
    _, answers = studio.begin(num_images=3, steps=500)
    until(answers, 2)
    os.kill(first, signal.SIGKILL)
    with pytest.raises(EngineDied) as death:
        list(answers)
    assert (death.value.reason, death.value.started) == ("engine crashed", True)
    assert "SIGKILL" in death.value.detail
    assert studio.ask(num_images=3).bytes() == undisturbed
    assert studio.engine.pid != first
    assert not psutil.pid_exists(first)


def test_only_the_request_on_the_device_counts_as_started(null: Studio) -> None:
    """The one that was waiting has cost no attempt."""
    _, on_device = null.begin(steps=1_000_000)
    until(on_device, 1)
    _, waiting = null.begin()
    assert null.engine.pid is not None
    os.kill(null.engine.pid, signal.SIGSEGV)
    for answers, started in ((on_device, True), (waiting, False)):
        with pytest.raises(EngineDied) as death:
            list(answers)
        assert death.value.started is started
        assert "SIGSEGV" in death.value.detail
    assert isinstance(null.ask().messages[-1], Generated)


def test_a_hung_engine_is_killed_and_replaced(null: Studio) -> None:
    """SIGSTOP: it lives and says nothing."""
    _, answers = null.begin(steps=1_000_000)
    until(answers, 1)
    pid = null.engine.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    with pytest.raises(EngineDied) as death:
        list(answers)
    assert (death.value.reason, death.value.started) == ("engine hung", True)
    assert "no sign of life for 1 s while working" in death.value.detail
    assert isinstance(null.ask().messages[-1], Generated)
    assert not psutil.pid_exists(pid)


def test_a_request_that_never_ends_is_ended_however_much_it_says(null_config: EngineConfig, tmp_path: Path) -> None:
    config = replace(null_config, step_seconds=0.01, hang_seconds=600.0, request_seconds=1.0)
    studio = Studio(EngineProcess(config), tmp_path)
    _, answers = studio.begin(steps=1_000_000)
    _, waiting = studio.begin()
    for left, (started, blameless) in ((answers, (True, False)), (waiting, (False, True))):
        with pytest.raises(EngineDied, match="engine hung: not done after 1 s") as death:
            list(left)
        assert (death.value.started, death.value.blameless) == (started, blameless)
    assert isinstance(studio.ask().messages[-1], Generated)
    studio.engine.close()


def test_a_request_that_does_not_stop_takes_its_process_along(null_config: EngineConfig, tmp_path: Path) -> None:
    """A step that hangs, far from its own limit: who waits behind it has lost nothing and is served by the next one."""
    studio = Studio(
        EngineProcess(replace(null_config, step_seconds=0.01, hang_seconds=600.0), obey_seconds=0.5), tmp_path
    )
    asked, answers = studio.begin(steps=1_000_000)
    until(answers, 1)
    _, waiting = studio.begin()
    pid = studio.engine.ready().pid
    os.kill(pid, signal.SIGSTOP)
    studio.engine.cancel(asked.request_id)
    for left, started in ((answers, True), (waiting, False)):
        with pytest.raises(EngineDied) as death:
            list(left)
        assert (death.value.reason, death.value.started) == ("engine hung", started)
        assert death.value.detail == "did not stop within 0.5 s"
    assert isinstance(studio.ask().messages[-1], Generated)
    studio.engine.close()


def test_a_request_that_waits_is_cancelled_without_the_device(null: Studio) -> None:
    """It does not wait for the end of the one before it to hear that nobody wants it."""
    _, on_device = null.begin(steps=1_000_000)
    until(on_device, 1)
    asked, waiting = null.begin()
    null.engine.cancel(asked.request_id)
    (word,) = waiting
    assert isinstance(word, Failed)
    assert word.error_class == "cancelled"
    until(on_device, 3)


def test_a_request_that_is_put_off_keeps_its_step_and_one_that_waits_says_so(null: Studio) -> None:
    """The last word says that it is to go on elsewhere; a cancellation that came first stays one."""
    asked, on_device = null.begin(steps=1_000_000, checkpoint_seconds=3600.0)
    until(on_device, 3)
    behind, waiting = null.begin()
    null.engine.cancel(behind.request_id, keep=True)
    (word,) = waiting
    assert isinstance(word, Failed)
    assert (word.error_class, word.error_type) == ("cancelled", PAUSED)
    null.engine.cancel(asked.request_id, keep=True)
    *_, kept, word = on_device
    assert isinstance(kept, CheckpointWritten)
    assert isinstance(word, Failed)
    assert (word.error_class, word.error_type) == ("cancelled", PAUSED)
    asked, on_device = null.begin(steps=1_000_000)
    until(on_device, 3)
    null.engine.cancel(asked.request_id)
    null.engine.cancel(asked.request_id, keep=True)
    *_, word = on_device
    assert isinstance(word, Failed)
    assert word.error_type == "Cancelled"


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="a pipe of another process is reached through /proc")
def test_a_killed_engine_whose_pipe_stays_open_is_given_up(null: Studio) -> None:
    """A process of its own, or one that the kernel cannot end, may hold the pipe for ever; nobody waits for it."""
    _, answers = null.begin(steps=1_000_000)
    until(answers, 1)
    pid = null.engine.ready().pid
    start = Start.from_json(psutil.Process(pid).cmdline()[-1])
    held = os.open(f"/proc/{pid}/fd/{start.answers}", os.O_WRONLY)
    os.kill(pid, signal.SIGSTOP)
    with pytest.raises(EngineDied) as death:
        list(answers)
    assert (death.value.reason, death.value.started) == ("engine hung", True)
    assert isinstance(null.ask().messages[-1], Generated)
    os.close(held)


@pytest.mark.skipif(sys.platform != "linux", reason="numbers of Linux")
def test_a_death_by_a_signal_without_a_name_is_told(null: Studio) -> None:
    _, answers = null.begin(steps=1_000_000)
    until(answers, 1)
    os.kill(null.engine.ready().pid, signal.SIGRTMIN + 6)
    with pytest.raises(EngineDied, match=f"killed by signal {signal.SIGRTMIN + 6}"):
        list(answers)
    assert isinstance(null.ask().messages[-1], Generated)


def test_an_engine_gets_nobodys_secrets() -> None:
    """Only what is known to be of use is passed on: no list of secrets would ever be complete."""
    useful = {"PATH": "/bin", "LD_LIBRARY_PATH": "/cuda", "CUDA_VISIBLE_DEVICES": "0", "PYTHONPATH": ".", "LC_ALL": "C"}
    secret = {
        "DATABASE_URL": "postgres://u:pw@h/d",
        "PGPASSWORD": "pw",
        "HF_TOKEN": "hf",
        "OURVIDZ_CALLBACK_SECRET": "s",
    }
    assert environment(useful | secret) == useful


def test_an_idle_engine_is_not_hung(null: Studio, tmp_path: Path) -> None:
    """A limit holds only while something is asked.

    Two processes are stopped at once. The death of the busy one, whose limit is longer, tells that the idle one's
    has passed too.
    """
    idle = EngineProcess(replace(null.engine.config, hang_seconds=0.5))
    pid = idle.ready().pid
    _, answers = null.begin(steps=1_000_000)
    until(answers, 1)
    for stopped in (pid, null.engine.ready().pid):
        os.kill(stopped, signal.SIGSTOP)
    with pytest.raises(EngineDied, match="engine hung"):
        list(answers)
    os.kill(pid, signal.SIGCONT)
    assert isinstance(Studio(idle, tmp_path).ask().messages[-1], Generated)
    assert idle.pid == pid
    idle.close()


def test_several_threads_are_served_in_turn(null: Studio) -> None:
    """Each gets its own answers and only those."""
    asked = [null.begin(steps=3, seed=seed) for seed in range(4)]
    seen: dict[str, list[FromEngine]] = {}

    def listen(request_id: str, answers: Iterator[FromEngine]) -> None:
        seen[request_id] = list(answers)

    threads = [threading.Thread(target=listen, args=(one.request_id, answers)) for one, answers in asked]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one, _ in asked:
        assert isinstance(seen[one.request_id][0], Started)
        assert isinstance(seen[one.request_id][-1], Generated)
        assert {getattr(message, "request_id", None) for message in seen[one.request_id]} == {one.request_id}


def test_what_is_loaded_is_known_until_it_is_released_or_the_process_dies(null: Studio) -> None:
    assert null.engine.resident == frozenset()
    null.ask(model="a", job_type="sdxl_image_fast")
    null.ask(model="b", job_type="video_fast")
    assert null.engine.resident == {"a", "b"}
    child = null.engine._child
    assert child is not None
    places: tuple[Literal["host", "released"], ...] = ("host", "released")
    for to in places:  # said for a request that nobody waits for any more, and true all the same
        said = Moved(request_id="gone", model="a", parts=["unet"], to=to, seconds=0.0, bytes=1)
        child._receive(said, lambda: None)
        assert null.engine.resident == ({"a", "b"} if to == "host" else {"b"})
    _, answers = null.begin(steps=1_000_000)
    until(answers, 1)
    os.kill(null.engine.ready().pid, signal.SIGKILL)
    with pytest.raises(EngineDied):
        list(answers)
    assert null.engine.resident == frozenset()


def test_leaving_the_answers_cancels_the_request(null: Studio) -> None:
    """So that a lane that gives up does not leave the device at work for nobody."""
    _, answers = null.begin(steps=1_000_000)
    until(answers, 1)
    answers.close()  # type: ignore[attr-defined]
    assert isinstance(null.ask().messages[-1], Generated)


def test_prompts_are_enhanced_by_the_same_door(null: Studio) -> None:
    ask = Enhance(request_id="e", job_id="j", prompt="a heron", seed=1)
    started, answer = null.engine.run(ask)
    assert isinstance(started, Started)
    assert isinstance(answer, Enhanced)
    assert answer.text == "a heron, clear evening light"


def test_closing_ends_the_process_and_says_so(null: Studio) -> None:
    """To the request on the device, to those who come later, and twice without harm."""
    _, answers = null.begin(steps=1_000_000)
    until(answers, 1)
    pid = null.engine.pid
    null.engine.close(seconds=0.0)
    for attempt in (lambda: list(answers), null.engine.ready, null.ask):
        with pytest.raises(EngineDied, match="engine stopped"):
            attempt()
    null.engine.close()
    assert pid is not None
    assert not psutil.pid_exists(pid)


def test_closing_lets_the_device_finish(null: Studio) -> None:
    _, answers = null.begin(steps=5)
    until(answers, 1)
    null.engine.close(seconds=30.0)
    assert isinstance(list(answers)[-1], Generated)


def test_no_engine_outlives_a_killed_parent(tmp_path: Path) -> None:
    """SIGKILL lets the parent say nothing; the kernel and the pipe say it."""
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
    )
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    parent.wait()
    parent.stdout.close()
    gone, alive = psutil.wait_procs([child], timeout=20)
    assert (gone, alive) == ([child], [])


def test_two_engines_never_share_a_device(studio: Studio) -> None:
    """The second says who has it, before it takes time to import torch."""
    holder = studio.engine.ready().pid
    second = EngineProcess(replace(studio.engine.config, lock_seconds=0.0))
    with pytest.raises(EngineDied) as death:
        second.ready()
    second.close()
    assert death.value.detail == f"exit code {EXIT_DEVICE_TAKEN}: cpu is used by another engine process (pid {holder})"
    assert studio.engine.ready().pid == holder


def test_an_engine_that_cannot_start_says_why(null_config: EngineConfig) -> None:
    """And may be asked again."""
    engine = EngineProcess(replace(null_config, engine="diffusers", device="tpu"))
    for _ in range(2):
        with pytest.raises(EngineDied, match="unknown device 'tpu'; expected cpu, cuda or cuda:<number>"):
            engine.ready()
    engine.close()


def test_parents_import_no_torch() -> None:
    """It costs two seconds and 200 MB in every process that has no use for it."""
    modules = "workers, ourvidz, statemachine, workers.engine_process, workers.models, workers.model_check"
    heavy = ("torch", "diffusers", "transformers", "numpy")
    code = f"import sys, {modules}; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
