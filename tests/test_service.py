"""The whole service on real engines: what the producer pushes becomes pictures, callbacks and a history."""

import io
import json
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import Any

import pytest
from PIL import Image

from tests.campaigns.service import Service, SlowReceiver, Told, served, wait_until
from tests.mutations import FIXTURES
from tests.references.internet import Site, ok
from workers.spool import sha256

DIRECT = Path(__file__).parent / "engines" / "direct_diffusers.py"
PAYLOADS = sorted((Path(__file__).parent / "payloads").glob("sdxl_*.json"))
WITH_REFERENCES = [path for path in FIXTURES if path.stem.endswith(("_ref", "_both"))]
OUTCOME_KEYS = {"job_id", "status", "assets", "error_message", "metadata"}
METADATA_KEYS = {
    "seed",
    "generation_time",
    "total_time",
    "num_images",
    "job_type",
    "content_type",
    "frame_num",
    "frames",
    "reference_mode",
    "expected_time",
    "performance_ratio",
}
SIZE, STEPS, GUIDANCE = 128, {"sdxl_image_fast": 15, "sdxl_image_high": 25}, {"fast": 6.0, "high": 7.5}


def _outcomes(receiver: SlowReceiver) -> dict[str, Told]:
    return {told.job_id: told for told in receiver.heard if told.status != "processing"}


def _pixels(root: Path, assets: list[str], bucket: str) -> list[str]:
    return [sha256(Image.open(root / bucket / asset).tobytes()) for asset in assets]


def _direct(model: Path, threads: int, cases: list[dict[str, Any]]) -> list[list[str]]:
    """Digests of the pixels that a process makes which imports nothing but the library."""
    command = [sys.executable, str(DIRECT), str(model), str(threads), json.dumps(cases)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.timeout(600)
def test_the_producers_payloads_become_the_librarys_own_pictures(tiny: Path, tmp_path: Path) -> None:
    """The type's defaults where today's producer sends WAN's; every key of the callback; files where they belong.

    The reference is at an address that nobody may ask for, so its picture is drawn without.
    """
    bodies = {body["id"]: body for body in (json.loads(path.read_text())["body"] for path in PAYLOADS)}
    for body in bodies.values():
        if "reference_image_url" in body["config"]:
            body["config"]["reference_image_url"] = "http://127.0.0.1:9/ref.png"
    url = f"sqlite:///{tmp_path / 'ourvidz.sqlite'}"
    with served(tmp_path, url, "diffusers", Random(1), model=tiny / "tiny-sdxl") as (service, receiver):
        service.start()
        for body in bodies.values():
            service.push("sdxl_queue", json.dumps(body, ensure_ascii=False).encode())
        assert wait_until(lambda: len(_outcomes(receiver)) == len(bodies), 300) is not None, receiver.heard
        _check(service, receiver, bodies, tiny / "tiny-sdxl")
        service.signal()
        assert service.wait(60) == 0


def _check(service: Service, receiver: SlowReceiver, bodies: dict[str, dict[str, Any]], model: Path) -> None:
    cases, made = [], []
    threads = 0
    for job_id, told in _outcomes(receiver).items():
        body, callback, job = bodies[job_id], json.loads(told.body), service.store.load(job_id)
        count, kind = body["config"]["num_images"], body["type"]
        assert callback["status"] == "completed", callback
        assert callback.keys() >= OUTCOME_KEYS
        assert callback["metadata"].keys() >= METADATA_KEYS
        assert callback["assets"] == [f"{body['user_id']}/{job_id}_{index}.png" for index in range(count)]
        seed = body["config"].get("seed", job.seed)
        assert callback["metadata"]["seed"] == seed
        if "reference_image_url" in body["config"]:
            assert callback["metadata"]["reference_mode"] == "single"
            assert callback["metadata"]["degraded"] == [
                {
                    "what": "references",
                    "why": "the reference cannot be used: 127.0.0.1 is not at a public address: generated without",
                }
            ]
            assert "reference_image_url" not in callback["metadata"]
        assert job.media is not None
        threads = job.media.threads or 0
        made.append(_pixels(service.storage, callback["assets"], body["bucket"]))
        call = {
            "prompt": body["prompt"],
            "negative_prompt": body["negative_prompt"],
            "width": SIZE,
            "height": SIZE,
            "num_inference_steps": STEPS[kind],
            "guidance_scale": GUIDANCE[kind.rsplit("_", 1)[-1]],
        }
        cases.append({"kwargs": call, "seeds": [seed + index for index in range(count)], "whole": True})
    assert made == _direct(model, threads, cases)


def _picture(colour: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (60, 40), colour).save(file, "JPEG")
    return file.getvalue()


@pytest.mark.timeout(180)
def test_references_travel_from_their_server_to_the_engine(tmp_path: Path) -> None:
    """The producer's three forms, real HTTP, the null engine in its own process: what came is what was drawn with."""
    url = f"sqlite:///{tmp_path / 'ourvidz.sqlite'}"
    replies = {f"/{name}.jpg": ok(_picture(colour)) for name, colour in (("first", "red"), ("last", "blue"))}
    with Site(replies) as site:
        held = {"reference_image_url": "first", "first_frame": "first", "last_frame": "last"}
        bodies = {}
        for path in WITH_REFERENCES:
            pushed = json.loads(path.read_text())
            config = pushed["body"]["config"]
            config |= {field: f"{site.url}/{name}.jpg" for field, name in held.items() if field in config}
            bodies[pushed["body"]["id"]] = pushed
        settings = {
            "OURVIDZ_ALLOWED_REFERENCE_HOSTS": ",".join(site.allowed),
            "OURVIDZ_ON_MISSING_REFERENCE": "fail",
            "OURVIDZ_NULL_STEP_SECONDS": "0",
        }
        with served(tmp_path, url, "null", Random(2), settings=settings, slowest=0.0) as (service, receiver):
            service.start()
            for pushed in bodies.values():
                service.push(pushed["queue"], json.dumps(pushed["body"]).encode())
            assert wait_until(lambda: len(_outcomes(receiver)) == len(bodies), 90) is not None, receiver.heard
            for job_id, told in _outcomes(receiver).items():
                metadata, config = json.loads(told.body)["metadata"], bodies[job_id]["body"]["config"]
                assert (told.status, metadata["reference_way"]) == ("completed", "null")
                assert metadata["reference_image_url"] == f"{site.url}/first.jpg"
                assert metadata["reference_strength"] == config["reference_strength"]
                assert "degraded" not in metadata
                came = {known["role"]: known["source_digest"] for known in service.store.load(job_id).references}
                start = "start" if "first_frame" in config else "single"
                expected = {start: sha256(_picture("red"))}
                assert came == (expected | {"end": sha256(_picture("blue"))} if "last_frame" in config else expected)
            service.signal()
            assert service.wait(60) == 0
