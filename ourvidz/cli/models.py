"""`models list`, `models check` and `models make-tiny`."""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ourvidz.cli.errors import CommandError
from ourvidz.cli.face import Face, face_of, note, say, say_json
from ourvidz.exit_codes import ExitCode
from ourvidz.wording import size

if TYPE_CHECKING:
    from workers.model_check import CheckReport
    from workers.models import ModelSpec

Json = Annotated[bool, typer.Option("--json", help="A document for programs.")]


def list_(ctx: typer.Context, as_json: Json = False) -> None:
    """List the configured models.

    \b
    Example:
        ourvidz models list
    """
    _tell(_specs(face_of(ctx), digests=False), as_json)


def check(
    ctx: typer.Context,
    quick: Annotated[bool, typer.Option("--quick", help="Only look at the files, digest included.")] = False,
    as_json: Json = False,
) -> None:
    """Load every configured model, make one small picture with it and say what it cost. Fails when one cannot.

    \b
    Example:
        ourvidz models check
    """
    face = face_of(ctx)
    specs = _specs(face, digests=True)
    usable = [spec for spec in specs if spec.problem is None]
    reports = [] if quick else [_try(face, spec) for spec in usable]
    _tell(specs, as_json, reports)
    if len(usable) < len(specs):
        raise CommandError(f"{len(specs) - len(usable)} of {len(specs)} models cannot be used", ExitCode.WRONG_SETTING)


def _try(face: Face, spec: "ModelSpec") -> "CheckReport":
    """One picture of its family's cheapest job type, on the first device.

    Raises CommandError with the engine's sentence.
    """
    from ourvidz import wiring
    from workers.errors import StageEnds
    from workers.model_check import check_model
    from workers.ports import EngineDied
    from workers.presets import PRESETS

    settings = face.settings()
    config = wiring.engine_config(settings, wiring.devices(settings)[0])
    preset = next(preset for preset in PRESETS.values() if preset.family == spec.family and preset.media == "image")
    folder = settings.data_dir / "model-check" / spec.name
    try:
        return check_model(
            config, spec.name, folder, job_type=preset.job_type, width=preset.width, height=preset.height
        )
    except (StageEnds, EngineDied) as error:
        raise CommandError(f"{spec.name}: {error}", ExitCode.WRONG_SETTING) from error


def make_tiny(
    ctx: typer.Context,
    root: Annotated[
        Path | None, typer.Argument(help="Where; DATA_DIR/models when not given.", metavar="[FOLDER]")
    ] = None,
) -> None:
    """Build the tiny models, in seconds and without a network: real engines on any laptop. Prints their paths.

    \b
    Example:
        export OURVIDZ_SDXL_MODEL=$(ourvidz models make-tiny | head -1)
    """
    from workers.models import make_tiny as build

    folder = root or face_of(ctx).settings().data_dir / "models"
    for path in build(folder.absolute()):
        say(str(path))


def _specs(face: Face, *, digests: bool) -> "list[ModelSpec]":
    from ourvidz import wiring
    from workers.models import DIGESTS, inspect_model
    from workers.presets import KNOWN_VARIANTS, WAN

    settings = face.settings()
    cache = settings.data_dir / "locks" / DIGESTS if digests else None
    return [
        inspect_model(
            name,
            KNOWN_VARIANTS[name],
            place,
            cache=cache,
            compute_digest=digests,
            original=settings.wan_engine == "script" and KNOWN_VARIANTS[name] == WAN,
        )
        for name, place in wiring.models(settings).items()
    ]


def _tell(specs: "list[ModelSpec]", as_json: bool, reports: "Sequence[CheckReport]" = ()) -> None:
    if as_json:
        say_json({"schema": 1, "models": [_document(spec) for spec in specs], "trials": [_cost(r) for r in reports]})
        return
    if not specs:
        note("no model is configured: set OURVIDZ_SDXL_MODEL or OURVIDZ_WAN_MODEL")
        note("`ourvidz models make-tiny` builds one of each to try with")
    for spec in specs:
        digest = f", digest {spec.digest[:12]}" if spec.digest else ""
        scale = f", drawn at {spec.render_scale} of the size" if spec.render_scale != 1 else ""
        say(f"{spec.name}  {spec.problem or f'{spec.path} ({size(spec.bytes)}{scale}{digest})'}")
    for report in reports:
        memory = ", ".join(
            f"{name.removesuffix('_gb')} {value:.2f} GiB"
            for name, value in report.memory.items()
            if name.endswith("_gb")
        )
        step = statistics.median(report.step_seconds) if report.step_seconds else 0.0
        say(
            f"{report.model}  on {report.device_name}: loaded in {report.load_seconds:.2f} s ({size(report.bytes)}), "
            f"one picture in {report.device_seconds:.2f} s ({step:.3f} s a step), {memory}"
        )
        for picture in report.pictures:
            say(f"{report.model}  {picture}")


def _cost(report: "CheckReport") -> dict[str, Any]:
    return {
        "model": report.model,
        "device": report.device,
        "device_name": report.device_name,
        "load_seconds": report.load_seconds,
        "device_seconds": report.device_seconds,
        "step_seconds": report.step_seconds,
        "bytes": report.bytes,
        "memory": report.memory,
        "pictures": [str(picture) for picture in report.pictures],
    }


def _document(spec: "ModelSpec") -> dict[str, Any]:
    return {
        "name": spec.name,
        "family": spec.family,
        "path": str(spec.path),
        "bytes": spec.bytes,
        "digest": spec.digest,
        "render_scale": str(spec.render_scale),
        "problem": spec.problem,
    }
