"""`jobs cancel`, `jobs retry` and `callbacks resend`."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ourvidz.cli.choosing import Choice, with_choice
from ourvidz.cli.errors import CommandError
from ourvidz.cli.face import Face, face_of, note, say, say_json
from ourvidz.cli.progress import bar
from ourvidz.exit_codes import ExitCode
from ourvidz.wording import plural

if TYPE_CHECKING:
    from ourvidz.acts import Act, Done
    from statemachine.states import State
    from statemachine.store import EventStore


@with_choice
def cancel(
    ctx: typer.Context,
    choice: Choice,
    wait: Annotated[bool, typer.Option("--wait", help="Until they are finished, and say how they ended.")] = False,
) -> None:
    """End jobs: a waiting one at once, one in work at its next step. Their receivers are told, with the reason.

    Refused once the outcome is decided. Filters mean jobs whose outcome is not, where no state is named.

    \b
    Example:
        ourvidz jobs cancel c41d --reason "ordered twice"
        ourvidz jobs cancel --user 7f3c2a52-8c1b-4b7e-9a55-2f6d1c0e9b11 --since 2h --dry-run
    """
    from ourvidz import acts

    act = acts.cancel(choice.by or acts.whoever(), choice.reason)
    with face_of(ctx).store() as store:
        done = _perform(store, act, choice)
        waiting = [one.job_id for one in done if one.done] if wait and not choice.dry_run else []
        if not choice.as_json:
            _say(act, choice, done)
        ended = _ended(face_of(ctx), store, waiting, quiet=choice.as_json)
    if choice.as_json:
        _say_json(act, choice, done, ended)
    otherwise = [row for row in ended if row["state"] != "cancelled"]
    _fail(act, done)
    if otherwise:
        more = f", and {len(otherwise) - 1} more" if len(otherwise) > 1 else ""
        said = f"job {otherwise[0]['id']} has {otherwise[0]['state']} before it could be cancelled{more}"
        raise CommandError(said, ExitCode.NOT_CANCELLED)
    if waiting and not choice.as_json:
        note(f"{plural(len(waiting), 'job')} ended as cancelled")


@with_choice
def retry(
    ctx: typer.Context,
    choice: Choice,
    stage: Annotated[
        str | None,
        typer.Option("--from", help="Where the new run begins; at the callback where only that failed, else queued."),
    ] = None,
) -> None:
    """Start a new run of finished jobs. What is not repeated, such as uploads that were made, is kept.

    Filters mean failed jobs, where no state is named.

    \b
    Example:
        ourvidz jobs retry e5f0 --reason "a larger card is there"
        ourvidz jobs retry --error "out of memory" --since 1d --from generating --dry-run
    """
    from ourvidz import acts

    act = acts.retry(choice.by or acts.whoever(), choice.reason, _stage(stage))
    carry_out(face_of(ctx), act, choice)


@with_choice
def resend(
    ctx: typer.Context,
    choice: Choice,
    as_new: Annotated[
        bool, typer.Option("--as-new", help="Under a new webhook-id, for a receiver that passes over the one it knows.")
    ] = False,
) -> None:
    """Tell the receiver once more what became of finished jobs: the same message under the same webhook-id.

    \b
    Example:
        ourvidz callbacks resend b8d2 --reason "its rows were not there yet"
        ourvidz callbacks resend --since 2h --until 1h --dry-run
    """
    from ourvidz import acts

    carry_out(face_of(ctx), acts.resend(choice.by or acts.whoever(), choice.reason, as_new=as_new), choice)


def carry_out(face: Face, act: "Act", choice: Choice) -> None:
    """Do it to the jobs that are meant, and say of each what came of it. Raises CommandError where one refused."""
    with face.store() as store:
        done = _perform(store, act, choice)
    if choice.as_json:
        _say_json(act, choice, done, None)
    else:
        _say(act, choice, done)
    _fail(act, done)


def _perform(store: "EventStore", act: "Act", choice: Choice) -> "list[Done]":
    """Find the jobs, ask where filters chose them, and do it."""
    from ourvidz.acts import perform
    from statemachine.errors import StoreAway
    from statemachine.store.reading import list_ids, resolve

    with store.read() as connection:
        if choice.by_filter:
            job_ids = list_ids(connection, choice.filter(store.now(), act.states))
        else:
            job_ids = list(dict.fromkeys(resolve(connection, prefix) for prefix in choice.ids))
    if (choice.by_filter or act.final) and job_ids and not choice.yes and not choice.dry_run:
        _confirm(act, len(job_ids))
    done: list[Done] = []
    try:
        with bar("jobs", len(job_ids)) as show:
            for one in perform(store, act, job_ids, dry=choice.dry_run):
                done.append(one)
                show(len(done))
    except StoreAway:
        if done:
            note(f"before the database went away, {plural(sum(one.done for one in done), 'job')} {act.participle}")
        raise
    return done


def _confirm(act: "Act", number: int) -> None:
    for_good = " for good" if act.final else ""
    if not sys.stdin.isatty():
        said = f"{plural(number, 'job')} would be {act.participle}{for_good}: there is no terminal to ask on"
        raise CommandError(f"{said}; --yes does it, --dry-run shows them", ExitCode.USAGE)
    typer.confirm(f"{plural(number, 'job')} to be {act.participle}{for_good}: go on?", abort=True, err=True)


def _say(act: "Act", choice: Choice, done: "list[Done]") -> None:
    """One line a job; a single one that refuses is told on stderr alone."""
    from ourvidz.masking import mask

    if not done:
        note("no job fits")
    for one in done:
        if one.done or len(done) > 1:
            say(mask(f"{one.job_id}  {'' if one.done else 'refused: '}{one.said}"))
    if choice.dry_run and done:
        note(f"nothing was written: {sum(one.done for one in done)} of {len(done)} would be {act.participle}")
    elif len(done) > 1:
        note(f"{sum(one.done for one in done)} of {len(done)} {act.participle}")


def _say_json(act: "Act", choice: Choice, done: "list[Done]", ended: Sequence[dict[str, Any]] | None) -> None:
    from ourvidz.masking import mask

    states = {row["id"]: row["state"] for row in ended or ()}
    jobs = [
        {"id": one.job_id, "done": one.done, "said": mask(one.said)}
        | ({} if ended is None else {"ended": states.get(one.job_id)})
        for one in done
    ]
    number = sum(one.done for one in done)
    counts = {"done": number, "refused": len(done) - number}
    say_json({"schema": 1, "act": act.name, "dry_run": choice.dry_run, **counts, "jobs": jobs})


def _fail(act: "Act", done: "list[Done]") -> None:
    """Raise CommandError where a job refused."""
    refused = [one for one in done if not one.done]
    if not refused:
        return
    first = refused[0]
    more = f" (and {len(refused) - 1} more refused)" if len(refused) > 1 else ""
    code = ExitCode.REFUSED if all(one.error is None for one in refused) else ExitCode.ERROR
    raise CommandError(f"job {first.job_id} cannot be {act.participle}: {first.said}{more}", code)


def _ended(face: Face, store: "EventStore", job_ids: list[str], *, quiet: bool) -> list[dict[str, Any]]:
    if not job_ids:
        return []
    from ourvidz.cli.watch import until_finished

    return until_finished(face, store, job_ids, quiet=quiet)


def _stage(name: str | None) -> "State | None":
    if name is None:
        return None
    from ourvidz.acts import STARTS

    for stage in STARTS:
        if stage.value == name:
            return stage
    raise typer.BadParameter(f"--from wants one of {', '.join(STARTS)}, got {name!r}")
