"""WAN's model in its own code's layout, looked at from outside: nothing in it is unpickled here."""

import json
from pathlib import Path

import pytest

from tests.engines.scripted import original_folder
from workers.models import inspect_model


def problem_of(folder: Path) -> str:
    problem = inspect_model("m", "wan", folder, original=True).problem
    assert problem is not None
    return problem


def test_the_original_layout_is_what_its_code_wants(tmp_path: Path) -> None:
    """And what the pipeline does not: the two sentences name the other form."""
    folder = original_folder(tmp_path / "wan")
    spec = inspect_model("m", "wan", folder, original=True, compute_digest=True)
    assert spec.problem is None
    files = ("diffusion_pytorch_model.safetensors", "models_t5_umt5-xxl-enc-bf16.pth", "Wan2.1_VAE.pth")
    assert spec.bytes == sum((folder / name).stat().st_size for name in files)
    other = inspect_model("m", "wan", folder).problem
    assert other is not None
    assert "get the diffusers version" in other


def test_its_digest_is_of_the_pickled_files_too_and_cached(tmp_path: Path) -> None:
    """Ten gigabytes are read once; a changed file is noticed, as its digest in the manifest is."""
    folder, cache = original_folder(tmp_path / "wan"), tmp_path / "digests.json"

    def digest(*, compute: bool = True) -> str | None:
        return inspect_model("m", "wan", folder, original=True, cache=cache, compute_digest=compute).digest

    assert digest(compute=False) is None
    first = digest()
    assert first is not None
    assert digest(compute=False) == first
    assert len(json.loads(cache.read_bytes())) == 5  # three parts, config.json, the tokenizer
    for name in ("Wan2.1_VAE.pth", "models_t5_umt5-xxl-enc-bf16.pth", "google/umt5-xxl/spiece.model", "config.json"):
        before = digest()
        with (folder / name).open("ab") as file:
            file.write(b" ")
        assert digest() != before
    (folder / "ourvidz-model.json").write_text(json.dumps({"digest": first}))
    spec = inspect_model("m", "wan", folder, original=True, compute_digest=True)
    assert "was changed" in (spec.problem or "")


@pytest.mark.parametrize(
    "name",
    ["config.json", "models_t5_umt5-xxl-enc-bf16.pth", "Wan2.1_VAE.pth", "diffusion_pytorch_model.safetensors",
     "google/umt5-xxl/spiece.model"],
)  # fmt: skip
def test_what_is_missing_is_named(tmp_path: Path, name: str) -> None:
    folder = original_folder(tmp_path / "wan")
    (folder / name).unlink()
    shown = {"diffusion_pytorch_model.safetensors": "diffusion_pytorch_model*.safetensors"}.get(name, name)
    assert problem_of(folder) == (
        f"{folder} is no folder for WAN's original code: it has no {shown.removesuffix('/spiece.model')}"
    )


def test_what_is_something_else_says_so(tiny: Path, tmp_path: Path) -> None:
    assert problem_of(tmp_path / "gone").endswith("gone does not exist; wan_engine script wants a folder")
    assert problem_of(tiny / "tiny-sdxl.safetensors").endswith("is a single file; wan_engine script wants a folder")
    assert "(it is a diffusers folder): it has no config.json, no " in problem_of(tiny / "tiny-wan")
    folder = original_folder(tmp_path / "wan")
    (folder / "Wan2.1_VAE.pth").write_bytes(b"<!DOCTYPE html>")
    assert "is no file of torch's: was its download answered by a web page?" in problem_of(folder)
    cut = original_folder(tmp_path / "cut")
    (cut / "diffusion_pytorch_model.safetensors").write_bytes(
        (cut / "diffusion_pytorch_model.safetensors").read_bytes()[:-2]
    )
    assert "is truncated" in problem_of(cut)


def test_sharded_weights_are_one_part(tmp_path: Path) -> None:
    folder = original_folder(tmp_path / "wan")
    whole = folder / "diffusion_pytorch_model.safetensors"
    for number in (1, 2):
        (folder / f"diffusion_pytorch_model-0000{number}-of-00002.safetensors").write_bytes(whole.read_bytes())
    whole.unlink()
    assert inspect_model("m", "wan", folder, original=True).problem is None
