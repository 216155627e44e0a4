"""Pictures: those of diffusers to the byte, and each parameter seen in them."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from PIL import Image

from tests.engines.asking import Studio
from tests.engines.conftest import THREADS
from tests.engines.easel import Easel
from workers.engines.messages import AssetWritten, Loaded, Progress
from workers.models import inspect_model
from workers.spool import sha256

DIRECT = Path(__file__).with_name("direct_diffusers.py")


def test_pixels_are_those_of_a_direct_diffusers_call(studio: Studio, tiny: Path) -> None:
    """For one, three and six images, another size, a negative prompt, and a seed that wraps around 2**63."""
    cases: list[dict[str, Any]] = [
        {"num_images": 1},
        {"num_images": 3, "seed": 2**63 - 2, "guidance_scale": 7.5},
        {"num_images": 6, "width": 1216, "height": 832, "negative_prompt": "blurry, bad hands", "steps": 4},
    ]
    direct = [
        {
            "kwargs": {
                "prompt": "a heron at dawn over a misty lake",
                "negative_prompt": case.get("negative_prompt", ""),
                "width": {1024: 128, 1216: 152}[case.get("width", 1024)],
                "height": {1024: 128, 832: 104}[case.get("height", 1024)],
                "num_inference_steps": case.get("steps", 6),
                "guidance_scale": case.get("guidance_scale", 6.0),
            },
            "seeds": [(case.get("seed", 7) + i) % 2**63 for i in range(case["num_images"])],
        }
        for case in cases
    ]
    done = subprocess.run(
        [sys.executable, str(DIRECT), str(tiny / "tiny-sdxl"), str(THREADS), json.dumps(direct)],
        capture_output=True,
        text=True,
        check=True,
    )
    for case, expected, line in zip(cases, direct, done.stdout.splitlines(), strict=True):
        answer = studio.ask(**case)
        assert [hashlib.sha256(pixels.tobytes()).hexdigest() for pixels in answer.pixels()] == json.loads(line), case
        assert [asset.seed for asset in answer.assets] == expected["seeds"]
        assert answer.generated.batches == [case["num_images"]]


@pytest.mark.parametrize(
    "change",
    [
        {"prompt": "a heron at dusk over a misty lake"},
        {"negative_prompt": "blurry"},
        {"guidance_scale": 7.5},
        {"steps": 7},
        {"seed": 8},
    ],
    ids=lambda change: next(iter(change)),
)
def test_every_parameter_can_be_seen(studio: Studio, change: dict[str, Any]) -> None:
    """A parameter lost on the way to the pipeline would leave the picture as it was."""
    (before,), (after,) = studio.ask().pixels(), studio.ask(**change).pixels()
    assert numpy.abs(before.astype(float) - after).mean() > 3


def test_pictures_are_smooth_and_not_of_one_colour(studio: Studio) -> None:
    (pixels,) = studio.ask(steps=15).pixels()
    assert pixels.std(axis=(0, 1)).min() > 8
    assert numpy.abs(numpy.diff(pixels.astype(float), axis=0)).mean() < 8
    assert ((pixels == 0) | (pixels == 255)).mean() < 0.2


def test_a_single_file_draws_what_its_folder_draws(studio: Studio) -> None:
    from_folder, from_file = studio.ask(num_images=3), studio.ask(num_images=3, model="single_file")
    assert [p.tobytes() for p in from_folder.pixels()] == [p.tobytes() for p in from_file.pixels()]
    assert from_folder.generated.model_digest != from_file.generated.model_digest


def test_the_same_request_twice_gives_the_same_files(studio: Studio) -> None:
    first, second = studio.ask(num_images=3), studio.ask(num_images=3)
    assert first.bytes() == second.bytes()
    assert len(set(first.bytes())) == 3


def test_what_is_said_is_what_lies_in_the_spool(studio: Studio, tiny: Path) -> None:
    """Digests, sizes, steps, the model's digest and its render scale."""
    answer = studio.ask(num_images=3, width=1216, height=832)
    for asset, data, pixels in zip(answer.assets, answer.bytes(), answer.pixels(), strict=True):
        assert (asset.digest, asset.bytes) == (sha256(data), len(data))
        assert pixels.shape == (asset.height, asset.width, 3) == (104, 152, 3)
    assert [asset.name for asset in answer.assets] == ["asset_0.png", "asset_1.png", "asset_2.png"]
    assert sorted(file.name for file in Path(answer.request.spool).iterdir()) == [a.name for a in answer.assets]
    steps = [(m.step, m.of) for m in answer.messages if isinstance(m, Progress)]
    assert steps == [(step, 6) for step in range(1, 7)]
    spec = inspect_model("x", "sdxl", tiny / "tiny-sdxl", compute_digest=True)
    assert (answer.generated.model_digest, answer.generated.render_scale) == (spec.digest, "1/8")
    assert answer.generated.memory["peak_rss_gb"] > 0
    assert "vram_used_gb" not in answer.generated.memory


def test_images_that_are_done_are_not_written_again(studio: Studio) -> None:
    """But the batch is drawn as it was composed, so that the others are the same pictures."""
    whole = studio.ask(num_images=3)
    rest = studio.ask(num_images=3, done=[0, 2])
    assert [asset.index for asset in rest.assets] == [1]
    assert rest.bytes() == [whole.bytes()[1]]
    nothing = studio.ask(num_images=3, done=[0, 1, 2])
    assert nothing.generated.device_seconds == 0
    assert not any(isinstance(m, Progress | AssetWritten) for m in nothing.messages)


def test_a_model_is_loaded_once(studio: Studio) -> None:
    """And it stays while there is room, also when another is asked for in between."""
    for model in ("single_file", "lustify_sdxl"):
        studio.ask(model=model)
    for model in ("single_file", "lustify_sdxl"):
        assert not [message for message in studio.ask(model=model).messages if isinstance(message, Loaded)]


def test_a_picture_tells_how_it_was_made(studio: Studio) -> None:
    """And nothing of who made it or where; its words only where that is allowed."""
    answer = studio.ask(num_images=3, prompt="a heron, 夜明け", negative_prompt="blurry", seed=40)
    texts = Image.open(answer.files[2]).text  # type: ignore[attr-defined]
    assert texts["prompt"] == "a heron, 夜明け"
    assert (texts["negative_prompt"], texts["seed"], texts["steps"]) == ("blurry", "42", "6")
    assert (texts["guidance_scale"], texts["size"], texts["model"]) == ("6.0", "128x128", "lustify_sdxl")
    assert texts["model_digest"] == answer.generated.model_digest
    assert texts["scheduler"] == "EulerDiscreteScheduler"
    assert "diffusers=" in texts["versions"]
    assert set(texts) == {
        *("Software", "prompt", "negative_prompt", "seed", "steps", "guidance_scale", "size", "batch"),
        *("model", "model_digest", "scheduler", "versions"),
    }
    silent = studio.ask(prompt="a secret heron", negative_prompt="a secret blur", embed_prompt=False)
    assert b"secret" not in silent.bytes()[0]


def test_a_decoder_that_failed_decodes_the_next_picture(tiny: Path, tmp_path: Path) -> None:
    """diffusers brings a half precision VAE to float32 to decode, and where that fails it stays there."""
    easel = Easel(tiny / "tiny-sdxl", tmp_path)
    pipeline, failing = easel.pipeline.to(torch.float16), [True]
    pipeline.vae.register_to_config(force_upcast=True)
    decode = pipeline.vae.decode

    def decoded(*arguments: Any, **named: Any) -> Any:
        if failing.pop():
            raise MemoryError
        return decode(*arguments, **named)

    pipeline.vae.decode = decoded
    with pytest.raises(MemoryError):
        easel.draw(steps=1)
    failing.append(False)
    assert len(easel.draw(steps=1).pixels()) == 1
    assert pipeline.vae.dtype == torch.float16
