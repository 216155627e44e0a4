"""Trying a model out: one small generation through a real engine process, and what it took. Imports no torch."""

from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image, ImageDraw

from workers.engine_process import EngineProcess
from workers.engines.config import EngineConfig
from workers.engines.messages import (
    AssetWritten,
    Enhance,
    Enhanced,
    Failed,
    FromEngine,
    Generate,
    Generated,
    Loaded,
    Progress,
    Ready,
    ReferenceFile,
)
from workers.errors import GiveUp, Misconfigured, TryAgain
from workers.spool import sha256

PROMPT = "a heron at dawn, mist over a lake"


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What one trial showed. Seconds; `bytes` of weights; `memory` in GiB as in `Generated`.

    `reference_way` says how a reference was used, None without one. An enhancer gives `text` of `tokens` in
    `device_seconds`, and neither pictures nor steps.
    """

    model: str
    path: Path
    digest: str
    device: str
    device_name: str
    load_seconds: float
    device_seconds: float
    bytes: int
    step_seconds: list[float] = field(default_factory=list)
    memory: dict[str, float] = field(default_factory=dict)
    pictures: list[Path] = field(default_factory=list)
    reference_way: str | None = None
    text: str | None = None
    tokens: int | None = None


def check_model(
    config: EngineConfig,
    model: str,
    folder: Path,
    *,
    helper: str | None = None,
    path: Path | None = None,
    job_type: str = "sdxl_image_fast",
    prompt: str = PROMPT,
    width: int = 1024,
    height: int = 1024,
    steps: int = 4,
    seed: int = 1,
) -> CheckReport:
    """Start an engine, draw one picture with that model into `folder`, end the engine, and report.

    With `helper`, the name of a model that serves this one, the picture is drawn after a reference that is made here,
    and the report is the helper's. `path` is where the model lies that is reported, for people.

    Raises Misconfigured, TryAgain or GiveUp with the engine's sentence, or EngineDied.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tried = helper or model
    request = Generate(
        request_id=f"check-{tried}",
        job_id="check",
        job_type=job_type,
        model=model,
        prompt=prompt,
        negative_prompt="",
        width=width,
        height=height,
        steps=steps,
        guidance_scale=6.0,
        seed=seed,
        num_images=1,
        frames=1,
        spool=str(folder.absolute()),
        references=[_reference(folder, width, height)] if helper else [],
    )
    ready, messages = _heard(config, request)
    finished = next((message for message in messages if isinstance(message, Generated)), None)
    if finished is None:
        raise GiveUp(f"the engine said nothing of {tried} after it had started")
    loads = [message for message in messages if isinstance(message, Loaded)]
    loaded = next((each for each in loads if each.model == tried), None)
    if loaded is None and ready.engine != "null":
        raise GiveUp(f"{tried} was not used: the reference was drawn by {finished.reference_way}")
    return CheckReport(
        model=tried,
        path=path or config.models.get(model, Path()),
        digest=loaded.digest if loaded is not None else finished.model_digest,
        device=ready.device,
        device_name=ready.device_name,
        load_seconds=loaded.seconds if loaded is not None else 0.0,
        device_seconds=finished.device_seconds,
        bytes=loaded.bytes if loaded is not None else 0,
        step_seconds=[message.seconds for message in messages if isinstance(message, Progress)],
        memory=finished.memory,
        pictures=[folder / message.name for message in messages if isinstance(message, AssetWritten)],
        reference_way=finished.reference_way,
    )


def check_enhancer(
    config: EngineConfig,
    model: str,
    *,
    prompt: str = PROMPT,
    seed: int = 1,
    max_tokens: int = 200,
    seconds: float = 60.0,
) -> CheckReport:
    """Start an engine, have one prompt enhanced, end the engine, and report. Raises as `check_model` does."""
    request = Enhance(
        request_id=f"check-{model}", job_id="check", prompt=prompt, seed=seed, max_tokens=max_tokens, seconds=seconds
    )
    ready, messages = _heard(config, request)
    answer = next((message for message in messages if isinstance(message, Enhanced)), None)
    if answer is None or answer.text is None:
        raise GiveUp(f"{model} enhanced nothing: {answer.reason if answer else 'the engine said nothing of it'}")
    loaded = next((message for message in messages if isinstance(message, Loaded)), None)
    return CheckReport(
        model=model,
        path=config.qwen or Path(),
        digest=loaded.digest if loaded is not None else "",
        device=ready.device,
        device_name=ready.device_name,
        load_seconds=loaded.seconds if loaded is not None else 0.0,
        device_seconds=answer.seconds,
        bytes=loaded.bytes if loaded is not None else 0,
        text=answer.text,
        tokens=answer.tokens,
    )


def _heard(config: EngineConfig, request: Generate | Enhance) -> tuple[Ready, list[FromEngine]]:
    """All that an engine of its own says of one request."""
    engine = EngineProcess(config)
    messages: list[FromEngine] = []
    try:
        ready = engine.ready()
        for message in engine.run(request):
            if isinstance(message, Failed):
                _raise(message)
            messages.append(message)
    finally:
        engine.close()
    return ready, messages


def _reference(folder: Path, width: int, height: int) -> ReferenceFile:
    """A dark bird-like blot under a low sun: something that can be recognised in what is drawn after it."""
    picture = Image.new("RGB", (width, height), (90, 130, 160))
    brush = ImageDraw.Draw(picture)
    brush.rectangle((0, height * 0.6, width, height), fill=(50, 80, 90))
    brush.ellipse((width * 0.6, height * 0.2, width * 0.85, height * 0.2 + width * 0.25), fill=(250, 200, 110))
    brush.ellipse((width * 0.2, height * 0.4, width * 0.45, height * 0.8), fill=(40, 40, 50))
    file = folder / "reference_single.png"
    picture.save(file)
    return ReferenceFile(role="single", name=file.name, digest=sha256(file.read_bytes()))


def _raise(failure: Failed) -> None:
    if failure.error_class == "misconfiguration":
        raise Misconfigured(failure.message, error_type=failure.error_type)
    if failure.error_class == "permanent":
        raise GiveUp(failure.message, error_type=failure.error_type)
    raise TryAgain(failure.message, error_type=failure.error_type, error_class=failure.error_class)
