"""Enhancing on the device: in the engine process, beside models that draw, out of memory, and with a broken model."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.engines.asking import Studio, request
from tests.engines.conftest import THREADS
from tests.fakes import FakeEngine
from tests.stages.house import JOB, House
from tests.stages.house import request as job_request
from workers.engine_process import EngineProcess
from workers.engines.config import EngineConfig
from workers.engines.faults import Cancelled
from workers.engines.messages import (
    Alive,
    Enhance,
    Enhanced,
    Failed,
    FromEngine,
    Generate,
    Loaded,
    Message,
    Moved,
    Started,
)
from workers.enhanced_text import words
from workers.errors import Misconfigured
from workers.models import inspect_model
from workers.presets import QWEN_7B
from workers.spool import sha256

pytest.importorskip("torch")

PROMPT = "a heron at dawn"
_ids = itertools.count(1)


def enhance(prompt: str = PROMPT, **changes: Any) -> Enhance:
    name = f"enhance-{next(_ids)}"
    asked: dict[str, Any] = {"request_id": name, "job_id": name, "prompt": prompt, "seed": 7, "seconds": 1e9}
    return Enhance(**asked | changes)


def test_the_process_enhances_and_draws_as_if_it_had_not(
    studio: Studio, shared_engine: EngineProcess, tiny: Path
) -> None:
    """The same seed gives the same text, another seed another; the model is loaded once, and its digest is told."""
    before = studio.ask().bytes()
    said = list(shared_engine.run(enhance()))
    again = list(shared_engine.run(enhance()))
    other = list(shared_engine.run(enhance(seed=8)))
    assert studio.ask().bytes() == before
    assert isinstance(said[0], Started)
    assert "enhancing, 1 tokens" in [m.doing for m in said if isinstance(m, Alive)]
    assert not any(isinstance(m, Loaded) for m in again)
    first, second, third = said[-1], again[-1], other[-1]
    assert isinstance(first, Enhanced)
    assert isinstance(second, Enhanced)
    assert isinstance(third, Enhanced)
    assert first.text is not None
    assert first.text.startswith("a heron at dawn, ")
    assert second.text == first.text != third.text
    spec = inspect_model(QWEN_7B, "qwen", tiny / "tiny-qwen", compute_digest=True)
    assert spec.digest is not None
    assert first.model == f"{QWEN_7B}@{spec.digest[:12]}"
    assert first.tokens in (9, 10)
    assert shared_engine.ready().can_enhance


class Both(FakeEngine):
    """Prompts are enhanced by the real one, pictures drawn by the fake."""

    def __init__(self, house: House, real: EngineProcess) -> None:
        super().__init__(house.spool)
        self._real = real

    def run(self, request: Generate | Enhance) -> Iterator[FromEngine]:
        if isinstance(request, Enhance):
            yield from self._real.run(request)
        else:
            yield from super().run(request)


def test_an_enhanced_job_draws_and_tells_the_text(shared_engine: EngineProcess) -> None:
    """From the model to the callback: what was drawn is what the receiver hears."""
    house = House()
    house.admit(job_request("image7b_fast_enhanced"))
    house.engine = Both(house, shared_engine)
    job = house.until_done()
    text = house.recorder.contents[JOB]["enhanced_prompt"]
    assert text.startswith("a heron at dawn, ")
    (drawn,) = [asked for asked in house.engine.requests if isinstance(asked, Generate)]
    assert drawn.prompt == text
    assert house.receiver.posts[-1].told["enhancedPrompt"] == text
    assert job.enhanced_digest == sha256(text.encode())
    assert any(f'"model":"{QWEN_7B}@' in stored.data for stored in house.recorder.history[JOB])


@pytest.fixture
def engine(tiny: Path, tmp_path: Path) -> Any:
    """One in this process, with the enhancer and the model of pictures."""
    from workers.engines.engine import DiffusersEngine

    return DiffusersEngine(config(tmp_path, tiny / "tiny-qwen", models={"lustify_sdxl": tiny / "tiny-sdxl"}))


def config(folder: Path, qwen: Path | None, **more: Any) -> EngineConfig:
    return EngineConfig(engine="diffusers", device="cpu", lock_dir=folder, qwen=qwen, threads=THREADS, **more)


def run(engine: Any, asked: Enhance) -> tuple[Enhanced, list[Message]]:
    heard: list[Message] = []
    answer: Enhanced = engine.enhance(asked, heard.append, lambda: False)
    return answer, heard


def moves(heard: list[Message]) -> list[tuple[str, str]]:
    told = [(m.to, m.model) for m in heard if isinstance(m, Moved)]
    return list(dict.fromkeys(told))


def test_tokens_that_run_out_leave_whole_clauses(engine: Any) -> None:
    answer, _ = run(engine, enhance(max_tokens=5))
    whole, _ = run(engine, enhance())
    assert answer.text is not None
    assert whole.text is not None
    assert whole.text.startswith(answer.text)
    assert answer.tokens == 5
    assert len(words(answer.text)) < len(words(whole.text))


def test_seconds_that_run_out_before_a_clause_is_whole_are_a_reason(engine: Any) -> None:
    answer, _ = run(engine, enhance(seconds=0.0))
    assert answer.text is None
    assert answer.reason == "it was cut off before its first clause was whole (stopped after 1 tokens)"


def test_an_elaborate_prompt_loads_no_model(engine: Any) -> None:
    answer, heard = run(engine, enhance("heron " * 200))
    assert answer.reason == "the prompt has 200 words already, and an enhanced one may have 120"
    assert heard == []


def test_without_a_model_there_is_a_reason(tmp_path: Path) -> None:
    from workers.engines.engine import DiffusersEngine

    engine = DiffusersEngine(config(tmp_path, None))
    assert not engine.can_enhance
    assert run(engine, enhance())[0].reason == "no enhancer model is configured"


def test_a_cancelled_one_leaves_the_model_usable(engine: Any) -> None:
    calls = itertools.count()
    with pytest.raises(Cancelled):
        engine.enhance(enhance(), lambda message: None, lambda: next(calls) > 3)
    assert run(engine, enhance())[0].text is not None


def test_a_model_that_cannot_be_loaded_is_a_sentence(tmp_path: Path, tiny: Path) -> None:
    from workers.engines.engine import DiffusersEngine

    with pytest.raises(Misconfigured, match="is a diffusers folder, which draws"):
        DiffusersEngine(config(tmp_path, tiny / "tiny-sdxl")).enhance(enhance(), lambda message: None, lambda: False)


def test_out_of_memory_the_others_go_and_then_it_is_the_reason(engine: Any, tmp_path: Path) -> None:
    """Never the end of the process."""
    engine.draw(request(tmp_path, steps=1), lambda message: None, lambda: False)
    run(engine, enhance())
    (part,) = engine.pool.held[QWEN_7B].parts
    short = [True]

    def out_of_memory(*_: Any) -> None:
        if short[0]:
            short[0] = len(engine.pool.held) == 1 and forever
            raise MemoryError

    forever = False
    hook = part.module.register_forward_pre_hook(out_of_memory)
    answer, heard = run(engine, enhance())
    assert answer.text is not None
    assert moves(heard) == [("released", "lustify_sdxl")]
    short[0] = forever = True
    answer, heard = run(engine, enhance())
    assert (answer.text, answer.reason) == (None, "no memory on cpu for the enhancer")
    hook.remove()
    assert run(engine, enhance())[0].text is not None


def test_the_enhancer_is_the_first_to_make_room(tmp_path: Path, tiny: Path) -> None:
    """It is needed for a moment: it waits in the host's memory, and is not loaded again."""
    from workers.engines.engine import DiffusersEngine

    sdxl = {"lustify_sdxl": tiny / "tiny-sdxl"}
    engine = DiffusersEngine(config(tmp_path, tiny / "tiny-qwen", models=sdxl))
    run(engine, enhance())
    engine.draw(request(tmp_path, steps=1), lambda message: None, lambda: False)
    engine.pool.budget = engine.pool.bytes - 1
    heard: list[Message] = []
    engine.pool.make_room(1, heard.append, "r")
    assert moves(heard) == [("host", QWEN_7B)]
    answer, heard = run(engine, enhance())
    assert answer.text is not None
    assert not any(isinstance(message, Loaded) for message in heard)
    assert ("device", QWEN_7B) in moves(heard)


def test_a_failure_is_told_and_the_process_goes_on(shared_engine: EngineProcess) -> None:
    """A number of tokens that transformers refuses stands for whatever goes wrong."""
    *_, failed = shared_engine.run(enhance(max_tokens=0))
    assert isinstance(failed, Failed)
    assert "max_new_tokens" in failed.message
    *_, answer = shared_engine.run(enhance())
    assert isinstance(answer, Enhanced)
