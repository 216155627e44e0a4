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
    from ourvidz.configured_models import Configured
    from workers.model_check import CheckReport
    from workers.models import ModelSpec

Json = Annotated[bool, typer.Option("--json", help="A document for programs.")]


def list_(ctx: typer.Context, as_json: Json = False) -> None:
    """List the configured models.

    \b
    Example:
        ourvidz models list
    """
    _tell(_models(face_of(ctx), digests=False), as_json)


def check(
    ctx: typer.Context,
    quick: Annotated[bool, typer.Option("--quick", help="Only look at the files, digest included.")] = False,
    as_json: Json = False,
) -> None:
    """Load every configured model, try it once and say what it cost. Fails when one cannot be used.

    A model that draws makes one small picture, a model for references one after a reference that is made on the spot,
    and the enhancer enhances a prompt.

    \b
    Example:
        ourvidz models check
    """
    face = face_of(ctx)
    models = _models(face, digests=True)
    usable = [(model, spec) for model, spec in models if spec.problem is None]
    reports = [] if quick else [_try(face, model) for model, _ in usable if model.idle is None]
    _tell(models, as_json, reports)
    if len(usable) < len(models):
        raise CommandError(
            f"{len(models) - len(usable)} of {len(models)} models cannot be used", ExitCode.WRONG_SETTING
        )


def _try(face: Face, model: "Configured") -> "CheckReport":
    """One trial on the first device, a picture in its family's cheapest job type.

    Raises CommandError with the engine's sentence.
    """
    from ourvidz import wiring
    from ourvidz.configured_models import KINDS
    from workers.errors import StageEnds
    from workers.model_check import check_enhancer, check_model
    from workers.ports import EngineDied
    from workers.presets import PRESETS, QWEN

    settings = face.settings()
    config = wiring.engine_config(settings, wiring.devices(settings)[0])
    kind = model.kind
    try:
        if kind.family == QWEN:
            tokens, seconds = settings.enhance_tokens, settings.enhance_seconds
            return check_enhancer(config, kind.name, max_tokens=tokens, seconds=seconds)
        drawing = next(each for each in KINDS if each.setting == (kind.serves or kind.setting))
        preset = next(each for each in PRESETS.values() if each.family == drawing.family and each.media == "image")
        return check_model(
            config,
            drawing.name,
            settings.data_dir / "model-check" / kind.name,
            helper=kind.name if kind.serves else None,
            path=model.path,
            job_type=preset.job_type,
            width=preset.width,
            height=preset.height,
        )
    except (StageEnds, EngineDied) as error:
        raise CommandError(f"{kind.name}: {error}", ExitCode.WRONG_SETTING) from error


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


def _models(face: Face, *, digests: bool) -> "list[tuple[Configured, ModelSpec]]":
    from ourvidz.configured_models import configured
    from workers.models import DIGESTS, inspect_model

    settings = face.settings()
    cache = settings.data_dir / "locks" / DIGESTS if digests else None
    return [
        (
            model,
            inspect_model(
                model.kind.name,
                model.kind.family,
                model.path,
                cache=cache,
                compute_digest=digests,
                original=model.original,
            ),
        )
        for model in configured(settings)
    ]


def _tell(models: "list[tuple[Configured, ModelSpec]]", as_json: bool, reports: "Sequence[CheckReport]" = ()) -> None:
    if as_json:
        told = [_document(model, spec) for model, spec in models]
        say_json({"schema": 1, "models": told, "trials": [_cost(report) for report in reports]})
        return
    if not models:
        note("no model is configured: set OURVIDZ_SDXL_MODEL or OURVIDZ_WAN_MODEL")
        note("`ourvidz models make-tiny` builds one of each to try with")
    for model, spec in models:
        digest = f", digest {spec.digest[:12]}" if spec.digest else ""
        scale = f", drawn at {spec.render_scale} of the size" if spec.render_scale != 1 else ""
        say(f"{spec.name}  {spec.problem or f'{spec.path} ({size(spec.bytes)}{scale}{digest})'}")
        if model.idle is not None:
            say(f"{spec.name}  {model.idle}")
    for report in reports:
        _tell_cost(report)


def _tell_cost(report: "CheckReport") -> None:
    loaded = f"{report.model}  on {report.device_name}: loaded in {report.load_seconds:.2f} s ({size(report.bytes)})"
    if report.text is not None:
        rate = (report.tokens or 0) / report.device_seconds if report.device_seconds else 0.0
        say(f"{loaded}, {report.tokens} tokens in {report.device_seconds:.2f} s ({rate:.1f} a second)")
        say(f"{report.model}  {report.text}")
        return
    memory = ", ".join(f"{name.removesuffix('_gb')} {value:.2f} GiB" for name, value in report.memory.items())
    step = statistics.median(report.step_seconds) if report.step_seconds else 0.0
    way = f" after a reference ({report.reference_way})" if report.reference_way else ""
    say(f"{loaded}, one picture{way} in {report.device_seconds:.2f} s ({step:.3f} s a step), {memory}")
    for picture in report.pictures:
        say(f"{report.model}  {picture}")


def _cost(report: "CheckReport") -> dict[str, Any]:
    return {
        "model": report.model,
        "digest": report.digest,
        "device": report.device,
        "device_name": report.device_name,
        "load_seconds": report.load_seconds,
        "device_seconds": report.device_seconds,
        "step_seconds": report.step_seconds,
        "bytes": report.bytes,
        "memory": report.memory,
        "pictures": [str(picture) for picture in report.pictures],
        "reference_way": report.reference_way,
        "text": report.text,
        "tokens": report.tokens,
    }


def _document(model: "Configured", spec: "ModelSpec") -> dict[str, Any]:
    return {
        "name": spec.name,
        "family": spec.family,
        "path": str(spec.path),
        "bytes": spec.bytes,
        "digest": spec.digest,
        "render_scale": str(spec.render_scale),
        "problem": spec.problem,
        "idle": model.idle,
    }
