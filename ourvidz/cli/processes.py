"""`up`, `worker`, `supervisor` and `demo`: the long-running commands. What they do stands in `ourvidz.processes` and
`ourvidz.demo`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ourvidz.cli.errors import CommandError
from ourvidz.cli.face import face_of
from ourvidz.exit_codes import ExitCode

if TYPE_CHECKING:
    from ourvidz.settings import Settings


def up(ctx: typer.Context) -> None:
    """Run everything on this machine: ingress, a worker, the supervisor. SIGTERM drains, a second one stops at once.

    \b
    Example:
        OURVIDZ_SDXL_MODEL=/models/sdxl.safetensors ourvidz up
    """
    settings = _prepared(ctx)
    from ourvidz.processes.up import main

    raise typer.Exit(main(settings))


def ingress(ctx: typer.Context) -> None:
    """Take jobs from the Redis lists into the database. One is enough; any number may run at once.

    \b
    Example:
        OURVIDZ_REDIS_URL=redis://redis.internal:6379/0 ourvidz ingress
    """
    settings = _prepared(ctx)
    if settings.redis_url is None:
        raise CommandError("redis_url is not set: there is no list to take jobs from", ExitCode.WRONG_SETTING)
    from ourvidz.processes.ingress import main

    raise typer.Exit(main(settings))


def worker(
    ctx: typer.Context,
    device: Annotated[str | None, typer.Option(help="Instead of the setting: cpu, cuda or cuda:N.")] = None,
) -> None:
    """Run one worker, with one engine process on its device.

    \b
    Example:
        ourvidz worker --device cuda:1
    """
    settings = _prepared(ctx)
    from ourvidz.processes.worker import main

    raise typer.Exit(main(settings, device=device))


def supervisor(ctx: typer.Context) -> None:
    """Run one supervisor: it hands on the jobs of workers that are gone. Any number may run at once.

    \b
    Example:
        ourvidz supervisor
    """
    settings = _prepared(ctx)
    from ourvidz.processes.supervisor import main

    raise typer.Exit(main(settings))


def demo(
    ctx: typer.Context,
    output: Annotated[Path, typer.Option(help="Where the pictures and the database go.", metavar="FOLDER")] = Path(
        "demo-output"
    ),
) -> None:
    """Run the whole service once, every job type and reference mode, on real engines with tiny models.

    \b
    Example:
        ourvidz demo --output demo-output
    """
    settings = _prepared(ctx)
    from ourvidz.demo.show import main

    raise typer.Exit(main(settings, output.absolute()))


def _prepared(ctx: typer.Context) -> "Settings":
    """The settings, checked, with logging set up as they say."""
    settings = face_of(ctx).settings()
    from ourvidz.logs import set_up

    set_up(settings.log_format, settings.log_level)
    return settings
