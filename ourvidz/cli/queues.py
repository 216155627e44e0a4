"""`queues list`, `pause` and `resume`."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from ourvidz.cli.choosing import By, Json
from ourvidz.cli.errors import CommandError
from ourvidz.cli.face import Face, face_of, note, say, say_json
from ourvidz.exit_codes import ExitCode

if TYPE_CHECKING:
    from statemachine.store.pausing import Queue

Name = Annotated[str, typer.Argument(help="sdxl_queue or wan_queue.", metavar="QUEUE", show_default=False)]
Reason = Annotated[str, typer.Option(help="Why, for whoever looks.", metavar="TEXT")]


def list_(ctx: typer.Context, as_json: Json = False) -> None:
    """List the queues: what waits and for how long, what is in work, who paused them and why.

    With a Redis set, also how many payloads lie in its lists and were not taken in yet.

    \b
    Example:
        ourvidz queues list
    """
    face = face_of(ctx)
    with face.store() as store:
        from statemachine.store.pausing import queue_lengths
        from workers.presets import QUEUES

        now = store.now()
        with store.read() as connection:
            found = queue_lengths(connection, QUEUES, now)
    lists = _lists(face, [queue.name for queue in found])
    if as_json:
        say_json({"schema": 1, "now": now.isoformat(), "queues": [_document(queue, now, lists) for queue in found]})
        return
    from ourvidz.cli.tables import queues_table

    face.show(queues_table(found, now, lists))


def pause(ctx: typer.Context, name: Name, reason: Reason = "", by: By = None, as_json: Json = False) -> None:
    """Take up nothing more from a queue. What is in work goes on; what waits, callbacks too, waits.

    \b
    Example:
        ourvidz queues pause wan_queue --reason "the storage moves"
    """
    _set(face_of(ctx), name, paused=True, by=by, reason=reason, as_json=as_json)


def resume(ctx: typer.Context, name: Name, reason: Reason = "", by: By = None, as_json: Json = False) -> None:
    """Take up from a queue again; idle workers hear it at once.

    \b
    Example:
        ourvidz queues resume wan_queue
    """
    _set(face_of(ctx), name, paused=False, by=by, reason=reason, as_json=as_json)


def _set(face: Face, name: str, *, paused: bool, by: str | None, reason: str, as_json: bool) -> None:
    with face.store() as store:
        from ourvidz.acts import whoever
        from statemachine.store import pausing
        from workers.presets import QUEUES

        if name not in QUEUES:
            raise CommandError(f"there is no queue {name}: known are {' and '.join(QUEUES)}", ExitCode.USAGE)
        who, now = by or whoever(), store.now()
        with store.write() as connection:
            if paused:
                changed = pausing.pause(connection, name, by=who, reason=reason, at=now)
            else:
                changed = pausing.resume(connection, name, by=who, reason=reason)
        store.wakeups.notify()
        with store.read() as connection:
            (queue,) = (one for one in pausing.queue_lengths(connection, QUEUES, now) if one.name == name)
    if as_json:
        say_json({"schema": 1, "changed": changed, **_document(queue, now, {})})
    else:
        from ourvidz.cli.tables import pause_of

        say(f"{name}: {pause_of(queue, now)}")
    if not changed:
        note(f"it {'was paused already' if paused else 'was not paused'}; nothing was changed")


def _document(queue: "Queue", now: Any, lists: dict[str, int]) -> dict[str, Any]:
    oldest = None if queue.oldest_due_at is None else max(0.0, (now - queue.oldest_due_at).total_seconds())
    return {
        "name": queue.name,
        "waiting": queue.waiting,
        "resting": queue.resting,
        "in_work": queue.in_work,
        "oldest_waiting_seconds": oldest,
        "paused_at": None if queue.paused_at is None else queue.paused_at.isoformat(),
        "by": queue.by,
        "reason": queue.reason,
        "in_redis": lists.get(queue.name),
    }


def _lists(face: Face, names: list[str]) -> dict[str, int]:
    """How many payloads lie in Redis, an ingress's own list included; a Redis that does not answer is noted."""
    url = face.settings().redis_url
    if url is None:
        return {}
    from workers.lists import ListsAway, lengths

    try:
        return lengths(url, names)
    except ListsAway as error:
        note(str(error))
        return {}
