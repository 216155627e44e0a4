"""Trying a model out: one small generation through a real engine process, and what it took. Imports no torch."""

from dataclasses import dataclass
from pathlib import Path

from workers.engine_process import EngineProcess
from workers.engines.config import EngineConfig
from workers.engines.messages import AssetWritten, Failed, Generate, Generated, Loaded, Progress
from workers.errors import GiveUp, Misconfigured, TryAgain

PROMPT = "a heron at dawn, mist over a lake"


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What one trial showed. Seconds; `bytes` of weights; `memory` in GiB as in `Generated`."""

    model: str
    path: Path
    digest: str
    device: str
    device_name: str
    load_seconds: float
    device_seconds: float
    step_seconds: list[float]
    bytes: int
    memory: dict[str, float]
    pictures: list[Path]


def check_model(
    config: EngineConfig,
    model: str,
    folder: Path,
    *,
    job_type: str = "sdxl_image_fast",
    prompt: str = PROMPT,
    width: int = 1024,
    height: int = 1024,
    steps: int = 4,
    seed: int = 1,
) -> CheckReport:
    """Start an engine, draw one picture with that model into `folder`, end the engine, and report.

    Raises Misconfigured, TryAgain or GiveUp with the engine's sentence, or EngineDied.
    """
    folder.mkdir(parents=True, exist_ok=True)
    request = Generate(
        request_id=f"check-{model}",
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
    )
    engine = EngineProcess(config)
    loaded: Loaded | None = None
    finished: Generated | None = None
    step_seconds: list[float] = []
    pictures: list[Path] = []
    try:
        ready = engine.ready()
        for message in engine.run(request):
            match message:
                case Loaded():
                    loaded = message
                case Progress():
                    step_seconds.append(message.seconds)
                case AssetWritten():
                    pictures.append(folder / message.name)
                case Failed():
                    _raise(message)
                case Generated():
                    finished = message
    finally:
        engine.close()
    if finished is None:
        raise GiveUp(f"the engine said nothing of {model} after it had started")
    return CheckReport(
        model=model,
        path=config.models.get(model, Path()),
        digest=finished.model_digest,
        device=ready.device,
        device_name=ready.device_name,
        load_seconds=loaded.seconds if loaded is not None else 0.0,
        device_seconds=finished.device_seconds,
        step_seconds=step_seconds,
        bytes=loaded.bytes if loaded is not None else 0,
        memory=finished.memory,
        pictures=pictures,
    )


def _raise(failure: Failed) -> None:
    if failure.error_class == "misconfiguration":
        raise Misconfigured(failure.message, error_type=failure.error_type)
    if failure.error_class == "permanent":
        raise GiveUp(failure.message, error_type=failure.error_type)
    raise TryAgain(failure.message, error_type=failure.error_type, error_class=failure.error_class)
