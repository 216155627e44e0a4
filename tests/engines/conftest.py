"""One engine process on the tiny models, shared by the whole session: torch takes six seconds to import."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engines.asking import Studio
from workers.engine_process import EngineProcess
from workers.engines.config import EngineConfig

THREADS = 1  # two that spin for each other take many times as long as one on a busy machine


@pytest.fixture(scope="session")
def broken(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a test puts models that are wrong in some way; the shared engine knows them by their file names."""
    return tmp_path_factory.mktemp("broken")


@pytest.fixture(scope="session")
def shared_engine(tiny: Path, broken: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineProcess]:
    models = {"lustify_sdxl": tiny / "tiny-sdxl", "single_file": tiny / "tiny-sdxl.safetensors"}
    for name in ("missing", "html", "truncated", "no_second_encoder", "wrong_shape", "no_unet_key", "pickled"):
        models[name] = broken / f"{name}.safetensors"
    models["wan_2_1_1_3b"] = tiny / "tiny-wan"
    models["folder_without_key"] = broken / "folder_without_key"
    engine = EngineProcess(
        EngineConfig(
            engine="diffusers",
            device="cpu",
            lock_dir=tmp_path_factory.mktemp("locks"),
            models=models,
            qwen=tiny / "tiny-qwen",
            wan_vace=tiny / "tiny-wan-vace",
            threads=THREADS,
        )
    )
    yield engine
    engine.close()


@pytest.fixture
def studio(shared_engine: EngineProcess, tmp_path: Path) -> Studio:
    """The shared engine with a spool of the test's own."""
    return Studio(shared_engine, tmp_path)


@pytest.fixture(scope="session")
def clamping_engine(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineProcess]:
    """One that has WAN and no VACE."""
    engine = EngineProcess(
        EngineConfig(
            engine="diffusers",
            device="cpu",
            lock_dir=tmp_path_factory.mktemp("locks"),
            models={"wan_2_1_1_3b": tiny / "tiny-wan"},
            threads=THREADS,
        )
    )
    yield engine
    engine.close()


@pytest.fixture
def clamping(clamping_engine: EngineProcess, tmp_path: Path) -> Studio:
    """The engine without VACE, with a spool of the test's own."""
    return Studio(clamping_engine, tmp_path)


@pytest.fixture
def null_config(tmp_path: Path) -> EngineConfig:
    """A null engine's process: no torch, there in a fraction of a second."""
    return EngineConfig(engine="null", device="cpu", lock_dir=tmp_path / "locks")
