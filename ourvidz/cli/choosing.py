"""Which jobs a command means: ids, or the filters of `jobs list`; and what all acts on jobs have in common."""

import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ourvidz.cli.times import parse_time

if TYPE_CHECKING:
    from datetime import datetime

    from statemachine.store.reading import Filter

States = Annotated[list[str] | None, typer.Option("--state", help="Only jobs in this state; may be repeated.")]
Type = Annotated[str | None, typer.Option("--type", help="Only jobs of this type.")]
User = Annotated[str | None, typer.Option(help="Only jobs of this user.", metavar="UUID")]
Since = Annotated[str | None, typer.Option(help="Queued since: 2h, 3d, or an ISO time (UTC).", metavar="T")]
Until = Annotated[str | None, typer.Option(help="Queued before, in the same forms.", metavar="T")]
ErrorText = Annotated[str | None, typer.Option(help="Only jobs whose error contains this.", metavar="TEXT")]
ErrorClass = Annotated[
    str | None,
    typer.Option("--error-class", help="Only jobs that met an error of this class, at the end or on the way."),
]
WorkerId = Annotated[
    str | None,
    typer.Option("--worker", help="Only jobs that a worker had whose id begins so, such as its host.", metavar="ID"),
]
By = Annotated[
    str | None, typer.Option(help="Who does it; your login name at this host when not given.", metavar="NAME")
]
Json = Annotated[bool, typer.Option("--json", help="A document for programs.")]


@dataclass(frozen=True)
class Choice:
    """The jobs that are meant, and how it is to be done."""

    ids: Sequence[str]
    state: Sequence[str]
    job_type: str | None
    user: str | None
    since: str | None
    until: str | None
    error: str | None
    error_class: str | None
    worker: str | None
    limit: int | None
    reason: str
    by: str | None
    dry_run: bool
    yes: bool
    as_json: bool

    @property
    def by_filter(self) -> bool:
        """Filters choose the jobs, and not ids."""
        when = (self.since, self.until, self.limit)
        filters = (self.state, self.job_type, self.user, self.error, self.error_class, self.worker, *when)
        if not self.ids and not any(filters):
            raise typer.BadParameter("wanted ids, or a filter such as --state, --user or --since")
        if self.ids and any(filters):
            raise typer.BadParameter("jobs are chosen by ids or by filters, not by both")
        return not self.ids

    def filter(self, now: "datetime", states: Sequence[str]) -> "Filter":
        """The filters; `states` where no state is named."""
        return wanted(
            now,
            state=self.state or states,
            job_type=self.job_type,
            user=self.user,
            since=self.since,
            until=self.until,
            error=self.error,
            error_class=self.error_class,
            worker=self.worker,
            limit=self.limit,
        )


def wanted(
    now: "datetime",
    *,
    state: Sequence[str],
    job_type: str | None,
    user: str | None,
    since: str | None,
    until: str | None,
    error: str | None,
    error_class: str | None,
    worker: str | None,
    limit: int | None,
) -> "Filter":
    """The filter that the options name. Raises BadParameter for a state, a class or a time that is none."""
    from statemachine.decisions import ERROR_CLASSES
    from statemachine.states import State
    from statemachine.store.reading import Filter

    known = [one.value for one in State]
    for name in state:
        if name not in known:
            raise typer.BadParameter(f"--state wants one of {', '.join(known)}, got {name!r}")
    if error_class is not None and error_class not in ERROR_CLASSES:
        raise typer.BadParameter(f"--error-class wants one of {', '.join(ERROR_CLASSES)}, got {error_class!r}")
    return Filter(
        states=list(state),
        job_type=job_type,
        user_id=user.lower() if user else None,
        since=parse_time(since, now),
        until=parse_time(until, now),
        error=error,
        error_class=error_class,
        worker=worker or None,
        limit=limit,
    )


def _choose(
    job_ids: Annotated[
        list[str] | None, typer.Argument(help="Ids, or their first characters; else filters.", metavar="[ID…]")
    ] = None,
    state: States = None,
    job_type: Type = None,
    user: User = None,
    since: Since = None,
    until: Until = None,
    error: ErrorText = None,
    error_class: ErrorClass = None,
    worker: WorkerId = None,
    limit: Annotated[
        int | None, typer.Option(help="At most so many, the newest first; all when not given.", min=1)
    ] = None,
    reason: Annotated[str, typer.Option(help="Why, for the history.", metavar="TEXT")] = "",
    by: By = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done, and to which jobs.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask first.")] = False,
    as_json: Json = False,
) -> Choice:
    """The parameters that every act has."""
    return Choice(
        ids=job_ids or [],
        state=state or [],
        job_type=job_type,
        user=user,
        since=since,
        until=until,
        error=error,
        error_class=error_class,
        worker=worker,
        limit=limit,
        reason=reason,
        by=by,
        dry_run=dry_run,
        yes=yes,
        as_json=as_json,
    )


_SHARED = inspect.signature(_choose).parameters


def with_choice(command: Callable[..., None]) -> Callable[..., None]:
    """The command with the shared parameters in place of its `choice`; its own stand between the ids and the others."""

    @functools.wraps(command)
    def run(ctx: typer.Context, **given: Any) -> None:
        shared = {name: given.pop(name) for name in _SHARED}
        command(ctx, _choose(**shared), **given)

    signature = inspect.signature(command)
    context, _, *own = signature.parameters.values()
    ids, *others = _SHARED.values()
    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters = [context, *(one.replace(kind=keyword) for one in (ids, *own, *others))]
    run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {one.name: one.annotation for one in parameters}
    return run
