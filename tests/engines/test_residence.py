"""Models on one device: together where they fit, in turns where they do not, and the same bytes either way."""

import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.engines.asking import Answer, Studio, request
from tests.engines.conftest import THREADS
from workers.engine_process import EngineProcess
from workers.engines.config import EngineConfig
from workers.engines.engine import DiffusersEngine
from workers.engines.messages import AssetWritten, Loaded, Message, Moved
from workers.weights import size_of


@pytest.fixture
def narrow(tiny: Path, tmp_path: Path) -> Iterator[Studio]:
    """An engine with room for the picture model alone."""
    sdxl, wan = tiny / "tiny-sdxl", tiny / "tiny-wan"
    engine = EngineProcess(
        EngineConfig(
            engine="diffusers",
            device="cpu",
            lock_dir=tmp_path / "locks",
            models={"lustify_sdxl": sdxl, "wan_2_1_1_3b": wan},
            memory_bytes=size_of(sdxl),
            threads=THREADS,
        )
    )
    spool = tmp_path / "narrow"
    spool.mkdir()
    yield Studio(engine, spool)
    engine.close()


def _moves(answer: Answer) -> list[tuple[str, str]]:
    """What was loaded and moved for a request, without the order in which parts of one model come."""
    moves = []
    for message in answer.messages:
        match message:
            case Loaded():
                moves.append(("loaded", message.model))
            case Moved():
                moves.append((message.to, message.model))
    return list(dict.fromkeys(moves))


def _video(studio: Studio) -> Answer:
    return studio.ask(
        job_type="video_fast", model="wan_2_1_1_3b", width=480, height=832, frames=5, steps=2, guidance_scale=5.0
    )


def test_models_that_do_not_fit_together_take_turns(narrow: Studio, studio: Studio) -> None:
    """Each swap is told with its bytes; what is drawn is what an engine with room for all draws."""
    picture = narrow.ask()
    assert _moves(picture) == [("loaded", "lustify_sdxl"), ("device", "lustify_sdxl")]
    video = _video(narrow)
    assert _moves(video)[0] == ("loaded", "wan_2_1_1_3b")
    # WAN comes in two phases, and its text encoder may have to be aside in the second one.
    aside = ("host", "wan_2_1_1_3b")
    assert set(_moves(video)[1:]) - {aside} == {("released", "lustify_sdxl"), ("device", "wan_2_1_1_3b")}
    assert all(message.bytes > 0 for message in video.messages if isinstance(message, Moved | Loaded))
    again = narrow.ask()
    assert ("loaded", "lustify_sdxl") in _moves(again)
    assert again.bytes() == picture.bytes() == studio.ask().bytes()
    assert video.bytes() == _video(studio).bytes()
    assert _moves(_video(studio)) == []
    assert _moves(studio.ask()) == []


def test_what_waits_for_the_encoder_holds_no_network(tiny: Path, tmp_path: Path) -> None:
    """Another model takes the room meanwhile, which has to be there."""
    deterministic = torch.are_deterministic_algorithms_enabled()
    models = {"lustify_sdxl": tiny / "tiny-sdxl"}
    engine = DiffusersEngine(
        EngineConfig(engine="diffusers", device="cpu", lock_dir=tmp_path, models=models, threads=THREADS)
    )
    said: list[Message] = []
    try:
        left = engine.draw(request(tmp_path, steps=1), said.append, lambda: False)
    finally:
        torch.use_deterministic_algorithms(deterministic)
    network = weakref.ref(engine._loaded["lustify_sdxl"][1].unet)
    assert engine.pool.release_others("another", said.append, "r")
    assert network() is None
    left()
    assert any(isinstance(message, AssetWritten) for message in said)
