"""WAN in little room: one text encoder and one VAE for both models, and the first aside while frames are drawn."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.engines.asking import Answer, Studio
from tests.engines.conftest import THREADS
from tests.engines.holding import lake
from workers.engine_process import EngineProcess
from workers.engines.config import EngineConfig
from workers.engines.messages import Loaded, Moved
from workers.weights import DigestCache, digest_of, size_of

BUFFERS = 300_000  # bytes, of the networks beside their weights


@pytest.fixture
def narrow(tiny: Path, tmp_path: Path) -> Iterator[Studio]:
    """An engine with room for VACE's transformer and the VAE, and for nothing beside them."""
    vace = tiny / "tiny-wan-vace"
    engine = EngineProcess(
        EngineConfig(
            engine="diffusers",
            device="cpu",
            lock_dir=tmp_path / "locks",
            models={"wan_2_1_1_3b": tiny / "tiny-wan"},
            wan_vace=vace,
            memory_bytes=size_of(vace / "transformer") + size_of(vace / "vae") + BUFFERS,
            threads=THREADS,
        )
    )
    spool = tmp_path / "narrow"
    spool.mkdir()
    yield Studio(engine, spool)
    engine.close()


def _video(studio: Studio, **changes: Any) -> Answer:
    return studio.ask(job_type="video_fast", model="wan_2_1_1_3b", width=480, height=832, frames=5, steps=2, **changes)


def _moves(answer: Answer) -> list[tuple[str, str, set[str]]]:
    return [(m.to, m.model, set(m.parts)) for m in answer.messages if isinstance(m, Moved)]


def test_the_tiny_models_share_what_can_be_shared(tiny: Path) -> None:
    """By the digests of their files."""
    cache = DigestCache(None)
    for part in ("text_encoder", "vae", "tokenizer", "scheduler"):
        digests = {digest_of(tiny / model / part, cache) for model in ("tiny-wan", "tiny-wan-vace")}
        assert len(digests) == 1, part


def test_two_models_hold_one_text_encoder_and_one_vae(narrow: Studio, studio: Studio) -> None:
    """Of the first model only its transformer goes; and what is drawn is what an engine with room for all draws."""
    text, vace = "wan_2_1_1_3b", "wan_2_1_vace_1_3b"
    plain = _video(narrow)
    assert _moves(plain) == [("device", text, {"text_encoder"}), ("device", text, {"transformer", "vae"})]
    references = {"start": lake((64, 96))}
    held = _video(narrow, references=references)
    assert [m.model for m in held.messages if isinstance(m, Loaded)] == [vace]
    assert _moves(held) == [
        ("host", text, {"text_encoder"}),
        ("released", text, {"transformer"}),
        ("device", vace, {"transformer"}),
    ]
    assert plain.bytes() == _video(studio).bytes()
    assert held.bytes() == _video(studio, references=references).bytes()
    again = _video(narrow, references=references)
    assert again.bytes() == held.bytes()
    assert not any(isinstance(message, Loaded) for message in again.messages)
