"""A generation that is broken off goes on from its last checkpoint, and ends with the bytes of an undisturbed one."""

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import EulerAncestralDiscreteScheduler, PNDMScheduler
from msgspec.structs import replace

from tests.engines.asking import Answer, Studio
from tests.engines.conftest import THREADS
from tests.engines.easel import Easel
from tests.engines.holding import lake, meadow
from workers.engine_process import EngineProcess
from workers.engines.config import EngineConfig
from workers.engines.faults import Asked, Cancelled
from workers.engines.messages import (
    PAUSED,
    CheckpointDiscarded,
    CheckpointWritten,
    Failed,
    FromEngine,
    Generate,
    Moved,
    Progress,
)
from workers.ports import EngineDied


@dataclass(frozen=True)
class Work:
    """One request; `references` are roles. `guided` is drawn by the model that is made for references."""

    changes: dict[str, Any] = field(default_factory=dict)
    references: tuple[str, ...] = ()
    guided: bool = True


VIDEO = {
    "job_type": "video_fast",
    "model": "wan_2_1_1_3b",
    "width": 480,
    "height": 832,
    "frames": 9,
    "guidance_scale": 5.0,
}
WORKS = {
    "sdxl": Work(),
    "sdxl, three": Work({"num_images": 3}),
    "sdxl, six": Work({"num_images": 6}),
    "sdxl over a reference": Work({"reference_strength": 0.3}, ("single",), guided=False),
    "sdxl with an adapter": Work({"reference_type": "character"}, ("single",)),
    "wan picture": Work({**VIDEO, "frames": 1, "job_type": "image_fast"}),
    "wan video": Work(VIDEO),
    **{
        f"wan {way} {'+'.join(roles)}": Work({**VIDEO, "reference_strength": 0.8}, roles, guided=guided)
        for way, guided in (("vace", True), ("clamp", False))
        for roles in (("single",), ("start",), ("end",), ("start", "end"))
    },
}


@pytest.fixture(scope="module")
def studios(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[bool, Studio]]:
    """By whether they have the models that are made for references."""
    made = {}
    for guided in (True, False):
        engine = EngineProcess(
            EngineConfig(
                engine="diffusers",
                device="cpu",
                lock_dir=tmp_path_factory.mktemp("locks"),
                models={"lustify_sdxl": tiny / "tiny-sdxl", "wan_2_1_1_3b": tiny / "tiny-wan"},
                wan_vace=tiny / "tiny-wan-vace" if guided else None,
                sdxl_ip_adapter=tiny / "tiny-ip-adapter" if guided else None,
                threads=THREADS,
            )
        )
        made[guided] = Studio(engine, tmp_path_factory.mktemp("spool"))
    yield made
    for studio in made.values():
        studio.engine.close()


def _begin(studio: Studio, work: Work, **changes: Any) -> tuple[Generate, Iterator[FromEngine]]:
    pictures = {"single": lake, "start": lake, "end": meadow}
    references = {role: pictures[role]((96, 160)) for role in work.references}
    return studio.begin(**{"references": references, **work.changes, **changes})


def _ask(studio: Studio, work: Work, **changes: Any) -> Answer:
    asked, answers = _begin(studio, work, **changes)
    return Answer(asked, list(answers))


def _broken_off(studio: Studio, work: Work, at: int, *, kill: bool = False) -> tuple[Generate, CheckpointWritten]:
    """The request, and the last checkpoint of which was heard before it was stopped: that of step `at`, or later."""
    asked, answers = _begin(studio, work, checkpoint_seconds=0.0)
    last = None
    try:
        for said in answers:
            if isinstance(said, CheckpointWritten):
                last = said
                if said.step == at and kill:
                    assert studio.engine.pid is not None
                    os.kill(studio.engine.pid, signal.SIGKILL)
                elif said.step == at:
                    studio.engine.cancel(asked.request_id)
    except EngineDied:
        assert kill
    assert last is not None
    return asked, last


def _paused(studio: Studio, work: Work, at: int) -> tuple[Generate, CheckpointWritten]:
    """The request, and the one checkpoint of it: it was put off at step `at`, long before one was due."""
    asked, answers = _begin(studio, work, checkpoint_seconds=3600.0)
    kept = []
    for said in answers:
        if isinstance(said, Progress) and said.step == at:
            studio.engine.cancel(asked.request_id, keep=True)
        if isinstance(said, CheckpointWritten):
            kept.append(said)
    assert isinstance(said, Failed)
    assert (said.error_class, said.error_type) == ("cancelled", PAUSED)
    (last,) = kept
    return asked, last


def _resumed(studio: Studio, asked: Generate, kept: CheckpointWritten, **changes: Any) -> Answer:
    """In the same spool folder, under another id: what another process would be asked."""
    changes |= {"request_id": f"{asked.request_id}:again", "resume_from": kept.name, "checkpoint_seconds": None}
    again = replace(asked, **changes)
    return Answer(again, list(studio.engine.run(again)))


def _steps(answer: Answer) -> list[int]:
    return [said.step for said in answer.messages if isinstance(said, Progress)]


@pytest.mark.parametrize("name", WORKS)
def test_what_was_broken_off_ends_with_the_same_bytes(studios: dict[bool, Studio], name: str) -> None:
    """And no step before the checkpoint is done again."""
    work = WORKS[name]
    studio = studios[work.guided]
    undisturbed = _ask(studio, work)
    of = len(_steps(undisturbed))
    for at in {1, of // 2, of - 1}:
        asked, kept = _broken_off(studio, work, at)
        resumed = _resumed(studio, asked, kept)
        assert resumed.bytes() == undisturbed.bytes()
        assert _steps(resumed) == list(range(kept.step + 1, of + 1))
        assert not any(isinstance(said, CheckpointDiscarded) for said in resumed.messages)


@pytest.mark.parametrize("name", ["sdxl", "wan video"])
def test_what_is_put_off_keeps_the_step_that_it_is_in(studios: dict[bool, Studio], name: str) -> None:
    """However long it is to the next checkpoint; what goes on from there ends with the same bytes."""
    work = WORKS[name]
    studio = studios[work.guided]
    undisturbed = _ask(studio, work)
    asked, kept = _paused(studio, work, 2)
    assert kept.step >= 2
    resumed = _resumed(studio, asked, kept)
    assert resumed.bytes() == undisturbed.bytes()
    assert _steps(resumed) == list(range(kept.step + 1, len(_steps(undisturbed)) + 1))


@pytest.mark.parametrize("name", ["sdxl, three", "wan vace start+end"])
def test_a_new_process_goes_on_from_what_a_killed_one_kept(studios: dict[bool, Studio], name: str) -> None:
    """And needs no text encoder of WAN's, the largest part of all."""
    work = WORKS[name]
    studio = studios[work.guided]
    undisturbed = _ask(studio, work)
    asked, kept = _broken_off(studio, work, 3, kill=True)
    resumed = _resumed(studio, asked, kept)
    assert resumed.bytes() == undisturbed.bytes()
    assert min(_steps(resumed)) == kept.step + 1
    if work.changes.get("model") == "wan_2_1_1_3b":
        brought = [part for said in resumed.messages if isinstance(said, Moved) for part in said.parts]
        assert "transformer" in brought
        assert "text_encoder" not in brought


def test_a_checkpoint_of_other_work_is_discarded_and_told_of(studios: dict[bool, Studio]) -> None:
    """Another seed, a file cut short, one that is gone: the pictures are drawn from the first step."""
    studio, work = studios[False], WORKS["sdxl"]
    asked, kept = _broken_off(studio, work, 3)

    def discarded(**changes: Any) -> str:
        answer = _resumed(studio, asked, kept, **changes)
        assert answer.bytes() == _ask(studio, work, **changes).bytes()
        assert _steps(answer)[0] == 1
        (said,) = (said for said in answer.messages if isinstance(said, CheckpointDiscarded))
        return said.why

    assert discarded(seed=8) == "it was made with another seed"
    assert discarded(prompt="a fox", steps=5) == "it was made with another prompt, another steps"
    file = Path(asked.spool) / kept.name
    file.write_bytes(file.read_bytes()[:1000])
    assert "it is no checkpoint of this program" in discarded()
    file.unlink()
    assert discarded() == "it cannot be read: No such file or directory"


def test_checkpoints_lie_as_far_apart_as_was_asked(studios: dict[bool, Studio]) -> None:
    """None where none is wanted, and none within a long interval."""
    studio, work = studios[False], WORKS["sdxl"]
    for seconds in (None, 3600.0):
        answer = _ask(studio, work, checkpoint_seconds=seconds)
        assert not any(isinstance(said, CheckpointWritten) for said in answer.messages)
    kept = [said for said in _ask(studio, work, checkpoint_seconds=0.0).messages if isinstance(said, CheckpointWritten)]
    assert kept
    assert [said.device_seconds for said in kept] == sorted(said.device_seconds for said in kept)


def test_a_scheduler_that_cannot_be_stored_is_drawn_with_all_the_same(tiny: Path, tmp_path: Path) -> None:
    """PNDM has its timesteps in numpy's arrays."""
    easel = Easel(tiny / "tiny-sdxl", tmp_path)
    easel.pipeline.scheduler = PNDMScheduler(skip_prk_steps=True)
    answer = easel.draw(checkpoint_seconds=0.0)
    assert len(answer.assets) == 1
    assert not any(isinstance(said, CheckpointWritten) for said in answer.messages)


def test_a_scheduler_that_draws_noise_in_each_step_goes_on_with_the_same(tiny: Path, tmp_path: Path) -> None:
    """The base model's draws none after the start; another model's folder may bring an ancestral one."""
    easel = Easel(tiny / "tiny-sdxl", tmp_path)
    easel.pipeline.scheduler = EulerAncestralDiscreteScheduler.from_config(easel.pipeline.scheduler.config)
    undisturbed = easel.draw()
    said: list[Any] = []
    asked, drawing = easel.drawing(said, checkpoint_seconds=3600.0)
    answers: list[Asked] = [False, False, "keep"]
    with pytest.raises(Cancelled):
        drawing.denoise(lambda: answers.pop(0))
    (kept,) = (message for message in said if isinstance(message, CheckpointWritten))
    resumed = easel.draw(resume_from=str(Path(asked.spool) / kept.name))
    assert _steps(resumed) == [4, 5, 6]
    assert resumed.bytes() == undisturbed.bytes()


def test_precision_and_scheduler_are_part_of_the_work(tiny: Path, tmp_path: Path) -> None:
    """Other settings, or another configuration beside a single file, would go on with other pixels."""
    easel = Easel(tiny / "tiny-sdxl", tmp_path)

    def identity() -> dict[str, Any]:
        return dict(easel.drawing([])[1]._run.identity)

    before = identity()
    easel.draw(steps=1)
    assert identity() == before
    easel.pipeline.scheduler = type(easel.pipeline.scheduler).from_config(
        easel.pipeline.scheduler.config, use_karras_sigmas=True
    )
    assert [name for name, value in identity().items() if value != before[name]] == ["scheduler"]
    easel.pipeline.unet.to(torch.float16)
    assert [name for name, value in identity().items() if value != before[name]] == ["precision", "scheduler"]
