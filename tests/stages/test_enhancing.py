"""Enhancing: reproducible, personal content beside its event, and never the end of a job."""

from collections.abc import Iterator

import pytest

from statemachine.states import State
from tests.fakes import FakeEngine
from tests.stages.house import JOB, House, request
from workers.engines.messages import Enhance, Enhanced, Failed, FromEngine, Generate, Started
from workers.ports import EngineDied
from workers.spool import sha256
from workers.tools import StageSettings


def house() -> House:
    made = House()
    made.admit(request("image7b_fast_enhanced"))
    return made


def test_the_text_is_personal_content_and_its_digest_is_history() -> None:
    made = house()
    job = made.until(State.GENERATING)
    text = made.recorder.contents[JOB]["enhanced_prompt"]
    assert text == "a heron at dawn, in soft light"
    assert job.enhanced_digest == sha256(text.encode())
    assert not any("soft light" in stored.data for stored in made.recorder.history[JOB])
    asked = made.engine.requests[0]
    assert isinstance(asked, Enhance)
    assert asked.seed == 7


def test_the_operator_s_limits_reach_the_engine() -> None:
    made = House(settings=StageSettings(enhance_tokens=30, enhance_seconds=4.5))
    made.admit(request("image7b_fast_enhanced"))
    made.until(State.GENERATING)
    asked = made.engine.requests[0]
    assert isinstance(asked, Enhance)
    assert (asked.max_tokens, asked.seconds) == (30, 4.5)


def test_without_an_enhancer_the_original_is_used() -> None:
    made = house()
    made.engine = FakeEngine(made.spool, can_enhance=False)
    job = made.until(State.UPLOADING)
    assert job.enhancement_skipped == "no enhancer model is configured"
    assert [attempt.outcome for attempt in job.tries(State.ENHANCING)] == ["skipped"]
    drawn = made.engine.requests[0]
    assert isinstance(drawn, Generate)
    assert drawn.prompt == "a heron at dawn"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Enhanced(request_id="", text=None, seconds=1, reason="it repeats itself"), "it repeats itself"),
        (Enhanced(request_id="", text=" \n", seconds=1), "the enhancer gave no text"),
        (
            Failed(request_id="", error_class="device_memory", error_type="X", message="no room"),
            "the enhancer failed: no room",
        ),
    ],
)
@pytest.mark.parametrize("started", [True, False])
def test_what_the_enhancer_cannot_do_is_told_and_the_job_goes_on(
    answer: FromEngine, reason: str, started: bool
) -> None:
    made = house()

    def script(asked: Enhance | Generate) -> Iterator[FromEngine]:
        made.engine.script = None
        if started or isinstance(answer, Enhanced):
            yield Started(request_id=asked.request_id)
        yield answer

    made.engine.script = script
    job = made.until_done()
    assert job.state is State.COMPLETED
    assert job.enhancement_skipped == reason
    assert [attempt.outcome for attempt in job.tries(State.ENHANCING)] == ["skipped"]
    assert "enhancedPrompt" not in made.receiver.posts[-1].told


def test_an_enhancer_that_kills_its_engine_is_left_out() -> None:
    """Twice it is tried; a third death would make the job poison, and it can be drawn without."""
    made = house()

    def script(asked: Enhance | Generate) -> Iterator[FromEngine]:
        if isinstance(asked, Generate):
            made.engine.script = None
            yield from made.engine.run(asked)
            return
        yield Started(request_id=asked.request_id)
        raise EngineDied("engine out of memory", "killed by signal 9", started=True)

    made.engine.script = script
    job = made.until_done()
    assert job.state is State.COMPLETED
    assert job.enhancement_skipped == "it was interrupted 2 times"
    assert [attempt.outcome for attempt in job.tries(State.ENHANCING)] == ["interrupted", "interrupted", "skipped"]
