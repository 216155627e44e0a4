"""`models list`, `models check` and `models make-tiny`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ourvidz.cli.errors import CommandError
from ourvidz.cli.face import Face, face_of, note, say, say_json
from ourvidz.exit_codes import ExitCode
from ourvidz.wording import size

if TYPE_CHECKING:
    from workers.models import ModelSpec

Json = Annotated[bool, typer.Option("--json", help="A document for programs.")]


def list_(ctx: typer.Context, as_json: Json = False) -> None:
    """List the configured models.

    \b
    Example:
        ourvidz models list
    """
    _tell(_specs(face_of(ctx), digests=False), as_json)


def check(ctx: typer.Context, as_json: Json = False) -> None:
    """Look at every configured model, digest included, without loading it. Fails when one cannot be used.

    \b
    Example:
        ourvidz models check
    """
    specs = _specs(face_of(ctx), digests=True)
    _tell(specs, as_json)
    wrong = [spec for spec in specs if spec.problem is not None]
    if wrong:
        raise CommandError(f"{len(wrong)} of {len(specs)} models cannot be used", ExitCode.WRONG_SETTING)


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
    from workers.models import inspect_model
    from workers.presets import KNOWN_VARIANTS, SDXL

    settings = face.settings()
    if settings.sdxl_model is None:
        return []
    name = next(variant for variant, family in KNOWN_VARIANTS.items() if family == SDXL)
    cache = settings.data_dir / "digests.json" if digests else None
    return [inspect_model(name, SDXL, settings.sdxl_model, cache=cache, compute_digest=digests)]


def _tell(specs: "list[ModelSpec]", as_json: bool) -> None:
    if as_json:
        say_json({"schema": 1, "models": [_document(spec) for spec in specs]})
        return
    if not specs:
        note("no model is configured: set OURVIDZ_SDXL_MODEL, or build one with `ourvidz models make-tiny`")
    for spec in specs:
        digest = f", digest {spec.digest[:12]}" if spec.digest else ""
        scale = f", drawn at {spec.render_scale} of the size" if spec.render_scale != 1 else ""
        say(f"{spec.name}  {spec.problem or f'{spec.path} ({size(spec.bytes)}{scale}{digest})'}")


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
