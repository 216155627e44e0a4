"""Models on disk, told without loading them."""

import json
import shutil
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from workers.engines.config import EngineConfig
from workers.errors import Misconfigured
from workers.model_check import check_model
from workers.models import inspect_model, make_tiny, render_size


def test_a_tiny_model_is_described(tiny: Path, tmp_path: Path) -> None:
    """Its digest is computed when asked for, remembered in the cache, and is the one its manifest names."""
    cache = tmp_path / "digests.json"
    for name, family in (
        ("tiny-sdxl", "sdxl"),
        ("tiny-sdxl.safetensors", "sdxl"),
        ("tiny-wan", "wan"),
        ("tiny-wan-vace", "wan_vace"),
    ):
        path = tiny / name
        lazy = inspect_model("m", family, path, cache=cache)
        assert (lazy.exists, lazy.render_scale, lazy.digest, lazy.problem) == (True, Fraction(1, 8), None, None)
        assert lazy.bytes > 1_000_000
        full = inspect_model("m", family, path, cache=cache, compute_digest=True)
        assert full.problem is None
        assert full.digest is not None
        assert inspect_model("m", family, path, cache=cache).digest == full.digest
    cache.write_text("{ broken")
    assert inspect_model("m", family, path, cache=cache, compute_digest=True).digest == full.digest


def test_weights_that_are_not_those_of_the_manifest_are_noticed(tiny: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny / "tiny-sdxl", tmp_path / "m")
    config = tmp_path / "m" / "scheduler" / "scheduler_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "beta_end": 0.02}))
    problem = inspect_model("m", "sdxl", tmp_path / "m", compute_digest=True).problem
    assert problem is not None
    assert "was changed: its manifest names digest" in problem


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ([], "has no model_index.json"),
        (
            ["config.json", "Wan2.1_VAE.pth", "models_t5.pth", "diffusion_pytorch_model.safetensors"],
            "get the diffusers version",
        ),
        (["model_index.json", "unet/diffusion_pytorch_model.bin"], "only safetensors is loaded"),
        (["model_index.json"], "has no .safetensors file"),
    ],
)
def test_a_folder_of_another_form_says_what_to_do(tmp_path: Path, files: list[str], sentence: str) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for name in files:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"{}")
    problem = inspect_model("m", "wan", folder).problem
    assert problem is not None
    assert sentence in problem


def test_a_model_of_another_kind_is_noticed(tiny: Path, tmp_path: Path) -> None:
    """By its manifest, or by what its index says where it has none."""
    shutil.copytree(tiny / "tiny-wan", tmp_path / "m")
    assert inspect_model("m", "wan", tmp_path / "m").problem is None
    (tmp_path / "m" / "ourvidz-model.json").unlink()
    problem = inspect_model("m", "sdxl", tmp_path / "m").problem
    assert problem is not None
    assert "holds a WanPipeline, and a model of the family 'sdxl' is a StableDiffusionXLPipeline" in problem
    (tmp_path / "m" / "model_index.json").write_text("[]")
    problem = inspect_model("m", "wan", tmp_path / "m").problem
    assert problem is not None
    assert problem.endswith("model_index.json is no table in JSON")


def test_a_pickled_file_is_never_loaded(tmp_path: Path) -> None:
    (tmp_path / "model.ckpt").write_bytes(b"\x80\x04")
    problem = inspect_model("m", "sdxl", tmp_path / "model.ckpt").problem
    assert problem is not None
    assert "is a pickled checkpoint, and only safetensors is loaded" in problem


def test_sizes_are_scaled_to_what_a_model_takes() -> None:
    assert render_size(1024, 1024, Fraction(1)) == (1024, 1024)
    assert render_size(1024, 1024, Fraction(1, 8)) == (128, 128)
    assert render_size(480, 832, Fraction(1, 8)) == (64, 104)
    assert render_size(8, 8, Fraction(1, 8)) == (8, 8)


def test_tiny_models_are_built_once_and_mended(tiny: Path, tmp_path: Path) -> None:
    """A second call builds nothing; a folder of another version, or half a set, is built again."""
    root = tmp_path / "models"
    shutil.copytree(tiny, root)
    marks = {path: path.stat().st_mtime_ns for path in root.rglob("*.safetensors")}
    make_tiny(root)
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*.safetensors")} == marks
    manifest = root / "tiny-sdxl" / "ourvidz-model.json"
    manifest.write_text(manifest.read_text().replace('"version": "', '"version": "old '))
    (root / "tiny-sdxl.safetensors").unlink()
    marks = {path: mark for path, mark in marks.items() if path.is_relative_to(root / "tiny-wan")}
    make_tiny(root)
    assert {path: path.stat().st_mtime_ns for path in (root / "tiny-wan").rglob("*.safetensors")} == marks
    digests = [
        inspect_model("m", "sdxl", folder / "tiny-sdxl.safetensors", compute_digest=True) for folder in (root, tiny)
    ]
    assert digests[0].digest == digests[1].digest
    assert digests[0].problem is None
    assert sorted(path.name for path in root.iterdir()) == sorted(path.name for path in tiny.iterdir())


def test_a_model_is_tried_out_by_one_small_picture(null_config: EngineConfig, tmp_path: Path) -> None:
    config = replace(null_config, models={"m": tmp_path})
    report = check_model(config, "m", tmp_path / "out")
    assert [picture.read_bytes()[:4] for picture in report.pictures] == [b"\x89PNG"]
    assert (report.model, report.device_name, len(report.step_seconds)) == ("m", "null", 4)


def test_the_builder_s_failure_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(Misconfigured, match=r"the tiny models could not be built: .*file"):
        make_tiny(tmp_path / "file" / "models")


@pytest.mark.parametrize("table", [{"a": 1}, {"a": {}}, {"a": {"data_offsets": []}}, {"a": {"data_offsets": [0, "x"]}}])
def test_a_header_that_tells_of_no_tensors_is_a_sentence(tmp_path: Path, table: dict[str, Any]) -> None:
    written = json.dumps(table).encode()
    file = tmp_path / "model.safetensors"
    file.write_bytes(len(written).to_bytes(8, "little") + written)
    spec = inspect_model("m", "sdxl", file)
    assert spec.problem == f"{file} is not a safetensors file: its header tells of no tensors"
