"""WAN's original code by settings: what the checks say of it, and that it is tried like any other model."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ourvidz.checks import check_all
from ourvidz.settings import Settings
from tests.engines.scripted import PROGRAM, original_folder


def findings(data_dir: Path, **settings: Any) -> dict[str, tuple[str, str]]:
    return {found.name: (found.level, found.said) for found in check_all(Settings(data_dir=data_dir, **settings))}


def test_the_check_of_the_settings_tries_program_interpreter_and_folder(tmp_path: Path) -> None:
    folder = original_folder(tmp_path / "wan")
    found = findings(tmp_path, wan_engine="script", wan_script=PROGRAM, wan_model=folder)
    assert found["wan_model"][0] == "ok"
    assert found["wan_script"][0] == "ok"
    assert f"by Python {sys.version.split()[0]} at" in found["wan_script"][1]
    assert findings(tmp_path, wan_model=folder)["wan_model"][0] == "wrong"
    assert findings(tmp_path)["wan_script"] == ("ok", "not needed: wan_engine is diffusers")


@pytest.mark.parametrize(
    ("settings", "level", "sentence"),
    [
        ({}, "wrong", "wanted OURVIDZ_WAN_SCRIPT"),
        ({"wan_script": Path("/nowhere/x.py")}, "wrong", "/nowhere/x.py is no file"),
        ({"wan_script": PROGRAM, "wan_python": "/nowhere/python"}, "wrong", "/nowhere/python is no program here"),
        ({"wan_script": PROGRAM, "wan_python": "false"}, "wrong", "does not run"),
        ({"wan_script": PROGRAM}, "warning", "wan_model is not set"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, settings: dict[str, Any], level: str, sentence: str) -> None:
    found = findings(tmp_path, wan_engine="script", **settings)["wan_script"]
    assert found[0] == level
    assert sentence in found[1]


def models(tmp_path: Path, *arguments: str, **environment: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", "from ourvidz.cli import main; main()", "models", *arguments, "--json"],
        cwd=tmp_path,
        env={
            **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
            "OURVIDZ_DEVICE": "cpu",
            "OURVIDZ_WAN_ENGINE": "script",
            "OURVIDZ_WAN_SCRIPT": str(PROGRAM),
            "OURVIDZ_WAN_MODEL": str(tmp_path / "wan"),
            **environment,
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def test_it_is_listed_and_tried_by_a_picture(tmp_path: Path) -> None:
    original_folder(tmp_path / "wan")
    (listed,) = models(tmp_path, "list")["models"]
    assert (listed["name"], listed["problem"]) == ("wan_2_1_1_3b", None)
    told = models(tmp_path, "check")
    (trial,) = told["trials"]
    assert [Path(picture).read_bytes()[:4] for picture in trial["pictures"]] == [b"\x89PNG"]
    assert trial["load_seconds"] > 0
    assert told["models"][0]["digest"] is not None
