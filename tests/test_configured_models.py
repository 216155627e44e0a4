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
from ourvidz.configured_models import KINDS
from ourvidz.settings import Settings
from workers.engines.config import EngineConfig
from workers.model_check import check_model
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
        ({}, ["warning", "ok", "warning", "ok", "ok"]),
        ({"engine": "null"}, ["ok"] * 5),
        ({"wan_model": "tiny-wan"}, ["ok"] * 5),
        ({"sdxl_model": "tiny-sdxl", "wan_model": "tiny-sdxl"}, ["ok", "ok", "wrong", "ok", "ok"]),
        ({"wan_model": "tiny-wan", "wan_vace_model": "tiny-wan-vace", "qwen_model": "tiny-qwen"}, ["ok"] * 5),
        ({"sdxl_model": "tiny-sdxl", "sdxl_ip_adapter": "tiny-ip-adapter"}, ["ok"] * 5),
        (
            {"sdxl_model": "tiny-sdxl", "sdxl_ip_adapter": "tiny-wan", "wan_vace_model": "tiny-wan"},
            ["ok", "wrong", "ok", "wrong", "ok"],
        ),
        (
            {"wan_model": "tiny-wan", "sdxl_ip_adapter": "tiny-ip-adapter", "qwen_model": "tiny-wan"},
            ["ok", "warning", "ok", "ok", "wrong"],
        ),
    ],
)
def test_the_check_of_the_settings_looks_at_all(
    tiny: Path, tmp_path: Path, settings: dict[str, str], levels: list[str]
) -> None:
    """To have one family only is no fault; a model that nobody asks for is worth a warning."""
    asked: dict[str, Any] = {name: value if name == "engine" else tiny / value for name, value in settings.items()}
    found = {finding.name: finding.level for finding in check_all(Settings(data_dir=tmp_path, **asked))}
    assert [found[kind.setting] for kind in KINDS] == levels


def told(tiny: Path, folder: Path, *command: str, **models: str) -> Any:
    """What `ourvidz models` says as JSON, with these tiny models set."""
    done = subprocess.run(
        [sys.executable, "-c", "from ourvidz.cli import main; main()", "models", *command, "--json"],
        cwd=folder,
        env={
            **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
            "OURVIDZ_DEVICE": "cpu",
            "OMP_NUM_THREADS": "1",
            **{f"OURVIDZ_{name.upper()}": str(tiny / model) for name, model in models.items()},
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_each_model_is_tried(tiny: Path, tmp_path: Path) -> None:
    """Those that draw by a picture, those for references by one after a reference, the enhancer by a prompt."""
    document = told(
        tiny,
        tmp_path,
        "check",
        sdxl_model="tiny-sdxl",
        sdxl_ip_adapter="tiny-ip-adapter",
        qwen_model="tiny-qwen",
    )
    assert [(model["name"], model["family"], model["problem"]) for model in document["models"]] == [
        ("lustify_sdxl", "sdxl", None),
        ("ip_adapter_sdxl", "sdxl_ip_adapter", None),
        ("qwen_2_5_7b", "qwen", None),
    ]
    trials = {trial["model"]: trial for trial in document["trials"]}
    assert list(trials) == [model["name"] for model in document["models"]]
    assert [trial["digest"] for trial in trials.values()] == [model["digest"] for model in document["models"]]
    *drawn, enhanced = trials.values()
    pictures = [Path(picture) for trial in drawn for picture in trial["pictures"]]
    assert len(set(pictures)) == 2
    assert all(picture.read_bytes()[:4] == b"\x89PNG" for picture in pictures)
    assert trials["lustify_sdxl"]["reference_way"] is None
    assert trials["ip_adapter_sdxl"]["reference_way"].startswith("ip_adapter")
    assert enhanced["text"].startswith("a heron at dawn, mist over a lake, ")
    assert enhanced["tokens"] > 5
    assert (enhanced["pictures"], enhanced["step_seconds"]) == ([], [])


def test_a_model_for_references_is_tried_with_the_one_that_it_serves(tiny: Path, tmp_path: Path) -> None:
    models = {"wan_2_1_1_3b": tiny / "tiny-wan"}
    config = EngineConfig(
        engine="diffusers", device="cpu", lock_dir=tmp_path, models=models, wan_vace=tiny / "tiny-wan-vace", threads=1
    )
    report = check_model(
        config,
        "wan_2_1_1_3b",
        tmp_path,
        helper="wan_2_1_vace_1_3b",
        path=config.wan_vace,
        job_type="image_fast",
        width=480,
        height=832,
    )
    assert (report.model, report.path, report.reference_way) == ("wan_2_1_vace_1_3b", config.wan_vace, "vace")
    assert [picture.read_bytes()[:4] for picture in report.pictures] == [b"\x89PNG"]


def test_a_model_that_nobody_asks_for_is_listed_and_not_tried(tiny: Path, tmp_path: Path) -> None:
    document = told(tiny, tmp_path, "check", sdxl_ip_adapter="tiny-ip-adapter")
    assert document["trials"] == []
    assert document["models"][0]["idle"] == "sdxl_model is not set, and no job asks for this model without it"
