"""WAN's frames and latents are those of diffusers to the last bit, called by a program that imports nothing of ours."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy
import pytest
from PIL import Image

from tests.engines import asking
from tests.engines.conftest import THREADS
from tests.engines.holding import decode, lake, meadow
from workers.engines.mp4 import encode_mp4

DIRECT = Path(__file__).with_name("direct_wan.py")
WATCHED = "tests.engines.watched_wan"

SIZE = (64, 96)
CASES: dict[str, dict[str, Any]] = {
    "a picture": {"frames": 1},
    "a video": {"frames": 5},
    # 12 frames make 9, as 83 make 81
    "another": {"frames": 12, "shift": 3.0, "steps": 4, "guidance_scale": 7.5, "seed": 2**63 - 1},
    "unguided": {"frames": 5, "guidance_scale": 1.0},
    "vace single": {"frames": 5, "way": "vace", "roles": ["single"], "reference_strength": 0.7},
    "vace start": {"frames": 5, "way": "vace", "roles": ["start"], "reference_strength": 0.5},
    "vace end": {"frames": 9, "way": "vace", "roles": ["end"], "reference_strength": 1.0},
    "vace both": {"frames": 5, "way": "vace", "roles": ["start", "end"], "reference_strength": 0.9},
    "vace picture": {"frames": 1, "way": "vace", "roles": ["start"], "reference_strength": 0.6},
    "vace single picture": {"frames": 1, "way": "vace", "roles": ["single"], "reference_strength": 0.6},
    "clamp single": {"frames": 5, "way": "latent_clamp", "roles": ["single"], "reference_strength": 0.8},
    "clamp start": {"frames": 5, "way": "latent_clamp", "roles": ["start"], "reference_strength": 0.5},
    "clamp end": {"frames": 9, "way": "latent_clamp", "roles": ["end"], "reference_strength": 0.7},
    "clamp both": {"frames": 5, "way": "latent_clamp", "roles": ["start", "end"], "reference_strength": 1.0},
    "clamp picture": {"frames": 1, "way": "latent_clamp", "roles": ["start"], "reference_strength": 0.6},
}
FAMILY = {None: ("tiny-wan", "wan"), "vace": ("tiny-wan-vace", "wan_vace"), "latent_clamp": ("tiny-wan", "wan")}


@pytest.fixture(scope="module")
def drawn(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Case → what the direct program and ours made of it: frames and latents of the one, file and latents of the other.

    Both draw all cases in one process each, since torch takes seconds to import.
    """
    root = tmp_path_factory.mktemp("parity")
    pictures = {"single": lake(SIZE), "start": lake(SIZE), "end": meadow(SIZE)}
    for role, picture in pictures.items():
        picture.save(root / f"{role}.png")
    direct, ours = [], []
    for case in CASES.values():
        fields = {name: value for name, value in case.items() if name not in ("way", "roles")}
        wan = {"job_type": "video_fast", "model": "wan_2_1_1_3b", "width": 480, "height": 832, "guidance_scale": 6.5}
        held = {role: pictures[role] for role in case.get("roles", ())}
        request = asking.request(root, **{**wan, "shift": 5.0, "references": held, **fields})
        folder, family = FAMILY[case.get("way")]
        ours.append((str(tiny / folder), family, request))
        kwargs = {
            "prompt": request.prompt,
            "width": SIZE[0],
            "height": SIZE[1],
            "num_frames": (request.frames - 1) // 4 * 4 + 1,
            "num_inference_steps": request.steps,
            "guidance_scale": request.guidance_scale,
        }
        files = {role: str(root / f"{role}.png") for role in held}
        how = {"way": case.get("way"), "strength": request.reference_strength, "seed": request.seed}
        direct.append({"model": str(tiny / folder), "kwargs": kwargs, "shift": request.shift, **how, **files})
    found: dict[str, Any] = {}
    for name, program, argument in (
        ("direct", [str(DIRECT)], json.dumps(direct)),
        ("ours", ["-m", WATCHED], msgspec.json.encode(ours).decode()),
    ):
        (root / name).mkdir()
        command = [sys.executable, *program, str(THREADS), str(root / name), argument]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    for number, name in enumerate(CASES):
        found[name] = (
            numpy.load(root / "direct" / f"{number}.npy"),
            numpy.load(root / "direct" / f"{number}.latents.npy"),
            next(Path(ours[number][2].spool).glob("asset_0.*")),
            numpy.load(root / "ours" / f"{number}.latents.npy"),
        )
    return found


@pytest.mark.parametrize("case", CASES)
def test_frames_and_latents_are_those_of_a_direct_diffusers_call(
    drawn: dict[str, Any], case: str, tmp_path: Path
) -> None:
    """A video is compared behind the encoder: the same frames, encoded here, decode to the same."""
    frames, latents, file, our_latents = drawn[case]
    assert numpy.array_equal(latents, our_latents)
    if len(frames) == 1:
        assert numpy.array_equal(numpy.asarray(Image.open(file)), frames[0])
    else:
        again = encode_mp4(frames, fps=16, comment="", folder=tmp_path)
        assert numpy.array_equal(decode(file.read_bytes()), decode(again))


def test_references_are_seen_in_the_direct_call(drawn: dict[str, Any]) -> None:
    """Or else both programs might have lost them."""
    plain = drawn["a video"][0].astype(float)
    for case, (frames, *_) in drawn.items():
        if case.split()[0] in ("vace", "clamp") and len(frames) == 5:
            assert numpy.abs(frames - plain).mean() > 3, case
