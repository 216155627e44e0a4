"""References in pictures: diffusers' own to the byte, closer the stronger they are, and gone without a trace."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy
import pytest
from PIL import Image

from tests.engines.asking import Studio, put
from tests.engines.conftest import THREADS
from tests.engines.holding import apart, lake, meadow
from workers.engines.messages import Loaded, Progress, ReferenceFile
from workers.engines.sdxl_reference import adapter_scale, denoising_strength
from workers.errors import Misconfigured, TryAgain
from workers.models import inspect_model
from workers.references.decoding import fit

if TYPE_CHECKING:
    from tests.engines.easel import Easel

pytest.importorskip("torch")

DIRECT = Path(__file__).with_name("direct_references.py")
TYPES = ("style", "composition", "character")
STRENGTHS = (0.1, 0.3, 0.5, 0.7, 0.9, 1.0)


@pytest.fixture(scope="module")
def easel(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> "Easel":
    """Tiny SDXL without an adapter."""
    from tests.engines.easel import Easel

    return Easel(tiny / "tiny-sdxl", tmp_path_factory.mktemp("spool"))


@pytest.fixture(scope="module")
def adapted(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> "Easel":
    """Another one, with the tiny adapter."""
    from tests.engines.easel import Easel

    return Easel(tiny / "tiny-sdxl", tmp_path_factory.mktemp("spool"), tiny / "tiny-ip-adapter")


def test_pixels_and_latents_are_those_of_direct_diffusers_calls(
    easel: "Easel", adapted: "Easel", tiny: Path, tmp_path: Path
) -> None:
    """Text, image-to-image and each way of the adapter, alone and in a batch; and text again after the adapter."""
    picture = lake((128, 128))
    picture.save(tmp_path / "lake.png")
    cases: list[tuple[Easel, dict[str, Any], dict[str, Any]]] = [
        (easel, {}, {}),
        (adapted, {"num_images": 3}, {}),
        (easel, {"reference_strength": 0.6}, {"strength": 3.5 / 6}),
        (easel, {"reference_strength": 1.0, "num_images": 3}, {"strength": 1.5 / 6}),
        (adapted, {"reference_strength": 0.7}, {"scale": {"up": {"block_0": [0.0, 0.7, 0.0]}}}),
        (
            adapted,
            {"reference_strength": 0.4, "reference_type": "composition", "num_images": 3},
            {"scale": {"down": {"block_2": [0.0, 0.4]}}},
        ),
        (adapted, {"reference_strength": 0.9, "reference_type": "character"}, {"scale": 0.9}),
        (adapted, {"reference_strength": 0.5, "guidance_scale": 1.0}, {"scale": {"up": {"block_0": [0.0, 0.5, 0.0]}}}),
        (adapted, {"num_images": 3}, {}),
    ]
    direct, ours = [], []
    for by, asked, how in cases:
        held = {"references": {"single": picture}} if how else {}
        count = asked.get("num_images", 1)
        kwargs = {
            "prompt": "a heron at dawn over a misty lake",
            "negative_prompt": "",
            "width": 128,
            "height": 128,
            "num_inference_steps": 6,
            "guidance_scale": asked.get("guidance_scale", 6.0),
        }
        direct.append(
            {"kwargs": kwargs, "seeds": list(range(7, 7 + count)), "image": str(tmp_path / "lake.png"), **how}
        )
        ours.append(by.seen(**asked, **held))
    command = [str(DIRECT), str(tiny / "tiny-sdxl"), str(tiny / "tiny-ip-adapter"), str(THREADS), json.dumps(direct)]
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=True)
    for (_, asked, how), mine, line in zip(cases, ours, done.stdout.splitlines(), strict=True):
        assert mine == json.loads(line), (asked, how)


@pytest.mark.parametrize("way", ["img2img", *TYPES])
def test_the_stronger_the_closer(easel: "Easel", adapted: "Easel", way: str) -> None:
    """In the steps of a fast job; at 1 img2img gives nearly the reference itself."""
    by, kind = (easel, "style") if way == "img2img" else (adapted, way)
    picture = lake((64, 64))
    held = {"references": {"single": picture}, "reference_type": kind, "width": 512, "height": 512, "steps": 15}
    answers = [by.draw(**held, reference_strength=strength) for strength in STRENGTHS]
    distances = [apart(answer.pixels()[0], picture) for answer in answers]
    assert {answer.generated.reference_way for answer in answers} == {
        "img2img" if way == "img2img" else f"ip_adapter:{way}"
    }
    assert all(before > after for before, after in pairwise(distances)), distances
    assert distances[-1] < distances[0] * (0.2 if way == "img2img" else 0.95)


@pytest.mark.parametrize("steps", [1, 4, 15, 25])
def test_at_least_one_step_is_taken(steps: int) -> None:
    """diffusers fails with a RuntimeError of no words where int(steps * strength) is 0."""
    taken = [int(steps * denoising_strength(strength / 100, steps)) for strength in range(10, 101)]
    assert taken == sorted(taken, reverse=True)
    assert (taken[0], taken[-1]) == (-(-steps * 9 // 10), 1)


def test_scales_name_blocks_that_are_there(adapted: "Easel") -> None:
    """Each type is heard in its own attentions and nowhere else; the tiny UNet has them where the real one has."""
    adapted.draw(references={"single": lake((64, 64))}, steps=1)
    adapter = adapted.kept["ip_adapter"]
    heard = {}
    for kind in TYPES:
        with adapter.worn(adapter_scale(kind, 0.3)):
            processors = adapted.pipeline.unet.attn_processors
            scales = {name: each.scale[0] for name, each in processors.items() if name.endswith("attn2.processor")}
        heard[kind] = {name.partition(".transformer")[0] for name, scale in scales.items() if scale == 0.3}
        assert set(scales.values()) <= {0.0, 0.3}
    assert heard["style"] == {"up_blocks.0.attentions.1"}
    assert heard["composition"] == {"down_blocks.2.attentions.1"}
    assert len(heard["character"]) == 11  # 4 downwards, 1 in the middle, 6 upwards, as in the real one
    assert not hasattr(next(iter(adapted.pipeline.unet.attn_processors.values())), "scale")


def test_an_adapter_is_loaded_once_and_its_networks_are_the_model_s(easel: "Easel", tiny: Path, tmp_path: Path) -> None:
    """With the first request that needs it; the image encoder is brought to look, and the other to draw."""
    from tests.engines.easel import Easel

    fresh = Easel(easel.model, tmp_path, tiny / "tiny-ip-adapter")
    assert not fresh.draw().generated.reference_way
    assert fresh.added == {}
    first, second = (fresh.draw(references={"single": meadow((64, 64))}) for _ in range(2))
    (loaded,) = [message for message in first.messages if isinstance(message, Loaded)]
    assert not [message for message in second.messages if isinstance(message, Loaded)]
    assert sorted(fresh.added) == ["image_encoder", "ip_adapter"]
    networks = ("unet", "vae", "text_encoder", "text_encoder_2")
    text, *held = [set(names) for names in fresh.brought]
    assert text == set(networks)
    assert held == [{"image_encoder"}, {*networks, "ip_adapter"}] * 2
    digest = inspect_model("a", "sdxl_ip_adapter", tiny / "tiny-ip-adapter", compute_digest=True).digest
    assert loaded.digest == first.generated.versions["ip_adapter_sdxl"] == digest
    assert first.bytes() == second.bytes()


def test_a_picture_tells_of_its_reference(easel: "Easel", adapted: "Easel") -> None:
    """How it was used, never where it came from."""
    held = {"references": {"single": lake((64, 64))}, "reference_strength": 0.5, "reference_type": "character"}
    answers = [by.draw(**held) for by in (easel, adapted)]
    over, beside = (Image.open(answer.files[0]).text for answer in answers)  # type: ignore[attr-defined]
    told = {"reference_type": "character", "reference_strength": "0.5", "reference_fit": "crop"}
    assert {**told, "reference_way": "img2img", "denoising_strength": "0.5833"}.items() <= over.items()
    digest = answers[1].generated.versions["ip_adapter_sdxl"]
    assert {**told, "reference_way": "ip_adapter:character", "ip_adapter_sdxl": digest}.items() <= beside.items()


def test_a_reference_is_letterboxed_or_cropped_to_the_picture(easel: "Easel") -> None:
    wide = lake((192, 64))
    fitted = {mode: fit(wide, 64, 96, mode) for mode in ("letterbox", "crop")}
    for mode, other in (("letterbox", "crop"), ("crop", "letterbox")):
        held = {"references": {"single": wide}, "reference_fit": mode, "reference_strength": 1.0}
        (pixels,) = easel.draw(**held, steps=15, width=512, height=768).pixels()
        assert apart(pixels, fitted[mode]) < 0.5 * apart(pixels, fitted[other])


def test_an_image_encoder_sees_all_of_an_oblong_reference_or_its_middle(adapted: "Easel") -> None:
    """The middle of the flag is red and its ends are blue; cropped it is nothing but red."""
    red, flag = Image.new("RGB", (64, 64), (220, 20, 20)), Image.new("RGB", (192, 64), (20, 20, 220))
    flag.paste(red, (64, 0))
    plain = adapted.draw(references={"single": red}).pixels()[0]
    cropped = adapted.draw(references={"single": flag}, reference_fit="crop").pixels()[0]
    whole = adapted.draw(references={"single": flag}, reference_fit="letterbox").pixels()[0]
    assert numpy.array_equal(cropped, plain)
    assert whole[..., 2].mean() > plain[..., 2].mean() + 5


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"reference_strength": 0.05}, "Invalid parameters: reference_strength must be in 0.1..1, got 0.05"),
        ({"reference_type": "mood"}, "Invalid parameters: reference_type must be style, composition or character"),
        ({"roles": ["start"]}, "Invalid parameters: SDXL takes one reference with the role single, got start"),
    ],
)
def test_what_sdxl_does_not_do_with_a_reference(studio: Studio, change: dict[str, Any], sentence: str) -> None:
    roles = change.pop("roles", ["single"])
    failure = studio.ask(references={role: lake((64, 64)) for role in roles}, **change).failed
    assert failure.error_class == "permanent"
    assert failure.message.startswith(sentence)


def test_a_reference_that_is_not_what_was_told_is_not_drawn_with(studio: Studio, easel: "Easel") -> None:
    """Missing or changed since it was fetched: it has to be fetched again."""
    missing = studio.ask(references=[ReferenceFile("single", "reference_single.png", "0" * 64)]).failed
    assert (missing.error_class, missing.error_type) == ("transient", "ReferenceLost")
    asked, drawing = easel.drawing([], references={"single": lake((64, 64))})
    put(Path(asked.spool), "single", meadow((64, 64)))
    with pytest.raises(TryAgain, match=r"was changed: expected digest [0-9a-f]{12}…, found [0-9a-f]{12}…"):
        drawing.denoise(lambda: False)


def test_a_retry_with_a_reference_draws_the_same(studio: Studio) -> None:
    """What is done is not written again; with all done, not even the reference is looked for."""
    held = {"references": {"single": meadow((128, 128))}, "num_images": 3, "reference_strength": 0.4}
    whole, rest = studio.ask(**held), studio.ask(**held, done=[0, 1])
    assert rest.bytes() == [whole.bytes()[2]]
    lost = [ReferenceFile("single", "gone.png", "0" * 64)]
    nothing = studio.ask(references=lost, num_images=3, done=[0, 1, 2])
    assert nothing.generated.reference_way == "img2img"
    assert not [message for message in nothing.messages if isinstance(message, Progress)]


def _pickled(folder: Path) -> None:
    (folder / "tiny-ip-adapter.safetensors").rename(folder / "ip-adapter_sdxl.bin")


def _two(folder: Path) -> None:
    shutil.copy(folder / "tiny-ip-adapter.safetensors", folder / "another.safetensors")


def _no_encoder(folder: Path) -> None:
    shutil.rmtree(folder / "image_encoder")


def _pickled_encoder(folder: Path) -> None:
    (folder / "image_encoder" / "model.safetensors").rename(folder / "image_encoder" / "pytorch_model.bin")


def _another_encoder(folder: Path) -> None:
    config = folder / "image_encoder" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "projection_dim": 1280}))


def _weights(folder: Path, dropped: str) -> None:
    from safetensors.numpy import load_file, save_file

    file = folder / "tiny-ip-adapter.safetensors"
    kept = {name: tensor for name, tensor in load_file(str(file)).items() if not name.startswith(dropped)}
    save_file(kept, str(file))


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (shutil.rmtree, "does not exist"),
        (_pickled, "holds a pickled adapter (ip-adapter_sdxl.bin); only safetensors is loaded"),
        (_two, "must hold exactly one adapter as .safetensors, found another.safetensors, tiny-ip-adapter.safetensors"),
        (_no_encoder, "has no image_encoder/config.json"),
        (_pickled_encoder, "has no .safetensors file, and only safetensors is loaded"),
        (_another_encoder, "reads an image encoder with projection_dim 16, and that of"),
        (lambda folder: _weights(folder, "image_proj"), "is no IP-Adapter of the kinds plain and plus"),
        (lambda folder: _weights(folder, "ip_adapter.21."), "does not fit its configuration"),
    ],
)
def test_a_bad_adapter_is_a_misconfiguration_in_one_sentence(
    easel: "Easel", tiny: Path, tmp_path: Path, spoil: Callable[[Path], None], sentence: str
) -> None:
    """Told before a job is burnt for it, and the model draws on without it."""
    from tests.engines.easel import Easel

    folder = tmp_path / "adapter"
    shutil.copytree(tiny / "tiny-ip-adapter", folder, ignore=shutil.ignore_patterns("ourvidz-model.json"))
    spoil(folder)
    spoiled = Easel(easel.model, tmp_path, folder, easel.pipeline)
    with pytest.raises(Misconfigured) as wrong:
        spoiled.draw(references={"single": lake((64, 64))}, steps=1)
    assert sentence in wrong.value.message
    assert str(folder) in wrong.value.message
    assert "\n" not in wrong.value.message
    assert spoiled.draw(steps=1).bytes()


def test_an_adapter_of_the_plus_kind_is_drawn_with(easel: "Easel", tiny: Path, tmp_path: Path) -> None:
    """Under the names of ip-adapter-plus_sdxl_vit-h: it reads the encoder's last layer but one, in 16 tokens."""
    from safetensors.numpy import load_file, save_file

    from tests.engines.easel import Easel

    folder = tmp_path / "plus"
    shutil.copytree(tiny / "tiny-ip-adapter", folder, ignore=shutil.ignore_patterns("ourvidz-model.json"))
    file = folder / "tiny-ip-adapter.safetensors"
    kept = {name: tensor for name, tensor in load_file(str(file)).items() if name.startswith("ip_adapter.")}
    shapes = {"latents": (1, 16, 64), "proj_in.weight": (64, 32), "proj_in.bias": (64,)}
    shapes |= {"proj_out.weight": (96, 64), "proj_out.bias": (96,), "norm_out.weight": (96,), "norm_out.bias": (96,)}
    for layer in range(4):
        attention, forward = f"layers.{layer}.0", f"layers.{layer}.1"
        for norm in (f"{attention}.norm1", f"{attention}.norm2", f"{forward}.0"):
            shapes |= {f"{norm}.weight": (64,), f"{norm}.bias": (64,)}
        shapes |= {f"{attention}.to_q.weight": (64, 64), f"{attention}.to_kv.weight": (128, 64)}
        shapes |= {f"{attention}.to_out.weight": (64, 64)}
        shapes |= {f"{forward}.1.weight": (256, 64), f"{forward}.3.weight": (64, 256)}
    noise = numpy.random.default_rng(0)
    plus = {f"image_proj.{name}": noise.normal(0, 0.1, shape).astype("float32") for name, shape in shapes.items()}
    save_file(kept | plus, str(file))
    by = Easel(easel.model, tmp_path, folder, easel.pipeline)
    held = {"references": {"single": lake((64, 64))}, "reference_type": "character", "width": 512, "height": 512}
    weak, strong = (by.draw(**held, reference_strength=strength).pixels()[0] for strength in (0.1, 1.0))
    assert not numpy.array_equal(weak, strong)
