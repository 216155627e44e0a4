"""`jobs erase`."""

import typer

from ourvidz.cli.acts import carry_out
from ourvidz.cli.choosing import Choice, with_choice
from ourvidz.cli.face import face_of


@with_choice
def erase(ctx: typer.Context, choice: Choice) -> None:
    """Remove what is personal of finished jobs, for good: payload, prompts, references' URLs, pictures and videos.

    Their history stays and still verifies; it says who erased them and why. It asks before it begins, even where ids
    are given, unless there is --yes. Where storage is away in the middle, the same command goes on with it later.

    \b
    Example:
        ourvidz jobs erase 90bc --reason "their owner asked for it" --dry-run
        ourvidz jobs erase --user 7f3c2a52-8c1b-4b7e-9a55-2f6d1c0e9b11 --reason "the account was closed" --dry-run
    """
    from ourvidz import wiring
    from ourvidz.acts import whoever
    from ourvidz.erasing import erase as act
    from workers.erasing import Remover
    from workers.spool import DiskSpool

    face = face_of(ctx)
    settings = face.settings()
    remover = Remover(wiring.storage(settings), DiskSpool(settings.spool_dir))
    carry_out(face, act(choice.by or whoever(), choice.reason, remover), choice)
