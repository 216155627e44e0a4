"""The models that a worker is given decide what it takes, and the command line tries each of them."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ourvidz import wiring
from ourvidz.checks import check_all
from ourvidz.settings import Settings
from workers.presets import PRESETS

SDXL_TYPES = ["sdxl_image_fast", "sdxl_image_high"]


def test_a_worker_takes_the_jobs_of_the_models_it_has() -> None:
    """All eight of WAN's types, the enhanced ones too: without an enhancer they are drawn from the prompt as it is."""
    sdxl, wan = Path("/models/sdxl.safetensors"), Path("/models/wan")
    assert wiring.job_types(Settings()) == []
    assert wiring.job_types(Settings(sdxl_model=sdxl)) == SDXL_TYPES
    assert wiring.job_types(Settings(wan_model=wan)) == [name for name in PRESETS if name not in SDXL_TYPES]
    both = Settings(sdxl_model=sdxl, wan_model=wan)
    assert wiring.job_types(both) == list(PRESETS)
    assert wiring.models(both) == {"lustify_sdxl": sdxl, "wan_2_1_1_3b": wan}


@pytest.mark.parametrize(
    ("settings", "levels"),
    [
        ({}, ["warning", "warning"]),
        ({"engine": "null"}, ["ok", "ok"]),
        ({"wan_model": "tiny-wan"}, ["ok", "ok"]),
        ({"sdxl_model": "tiny-sdxl", "wan_model": "tiny-sdxl"}, ["ok", "wrong"]),
    ],
)
def test_the_check_of_the_settings_looks_at_both(
    tiny: Path, tmp_path: Path, settings: dict[str, str], levels: list[str]
) -> None:
    """To have one family only is no fault."""
    asked: dict[str, Any] = {name: tiny / value if "model" in name else value for name, value in settings.items()}
    found = {finding.name: finding.level for finding in check_all(Settings(data_dir=tmp_path, **asked))}
    assert [found["sdxl_model"], found["wan_model"]] == levels


def test_each_model_is_tried_by_a_picture(tiny: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from ourvidz.cli import main; main()", "models", "check", "--json"],
        cwd=tmp_path,
        env={
            **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
            "OURVIDZ_DEVICE": "cpu",
            "OURVIDZ_SDXL_MODEL": str(tiny / "tiny-sdxl"),
            "OURVIDZ_WAN_MODEL": str(tiny / "tiny-wan"),
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert [(model["name"], model["family"], model["problem"]) for model in told["models"]] == [
        ("lustify_sdxl", "sdxl", None),
        ("wan_2_1_1_3b", "wan", None),
    ]
    pictures = [Path(picture) for trial in told["trials"] for picture in trial["pictures"]]
    assert len(set(pictures)) == 2
    assert all(picture.read_bytes()[:4] == b"\x89PNG" for picture in pictures)
