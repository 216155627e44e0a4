"""What came in, what came out, for whom, and what it cost: `throughput`, `users`, `cost`."""

from typing import Final

from ourvidz.reports.answer import Answer, Row
from ourvidz.reports.asking import Asking, added_up, part
from ourvidz.reports.columns import count, seconds, share, size_of
from ourvidz.reports.names import By
from ourvidz.reports.span import Unanswerable
from statemachine.store.facts import ARRIVALS, ATTEMPTS, OUTPUT, TYPES_JOBS, USE, USERS_JOBS, Fact

_JOBS: Final = ("queued", "completed", "failed", "cancelled", "assets", "bytes")
_COUNTS: Final = (*_JOBS, "device_seconds", "wasted_seconds")
_NOTHING: Final = dict.fromkeys(_COUNTS, 0)


def throughput(ask: Asking) -> Answer:
    """Jobs that came in and that ended, and what they made."""
    ask, by = ask.or_by(By.DAY)
    if by is By.WORKER:
        raise Unanswerable("a job goes through many workers' hands: `ourvidz report workers` counts what each did")
    rows = [_with_failed_share(row) for row in _work(ask, USERS_JOBS if by is By.USER else TYPES_JOBS)]
    return ask.answer(
        "Jobs queued, and jobs that ended, each counted where its last run did; assets are of completed jobs.",
        [ask.line(by)],
        [
            *(count(one) for one in ("queued", "completed", "failed", "cancelled", "assets")),
            size_of("bytes", "size"),
            share("failed_share", "failed %"),
        ],
        rows,
        _with_failed_share(added_up(rows, _JOBS)),
    )


def users(ask: Asking) -> Answer:
    """Who asked for how much."""
    ask, by = ask.or_by(By.USER)
    if by is By.WORKER:
        raise Unanswerable("users are served by whichever worker is free; --by hour, day, type or user")
    if by is not By.USER:
        return _active_users(ask, by)
    rows = _work(ask, USE)
    totals = added_up(rows, _COUNTS)
    for row in [*rows, totals]:
        row["device_share"] = part(row["device_seconds"], totals["device_seconds"])
    return ask.answer(
        "Jobs that each user queued, jobs of theirs that ended, and the device time they took.",
        [ask.line(by)],
        [
            *(count(one) for one in ("queued", "completed", "failed", "cancelled", "assets")),
            size_of("bytes", "size"),
            seconds("device_seconds", "device"),
            share("device_share", "of device"),
        ],
        rows,
        totals,
    )


def _active_users(ask: Asking, by: By) -> Answer:
    line = ask.line(by)

    def told(row: Row) -> Row:
        return row | {"users": row["number"], "most_of_one_share": part(row["most"], row["queued"])}

    nothing = told({"number": 0, "queued": 0, "most": None})
    (everybody,) = ask.in_all().spread(ARRIVALS, over="user_id", of="queued")
    return ask.answer(
        "Users who queued jobs, and how the jobs are spread over them.",
        [line],
        [count("users"), count("queued"), share("most_of_one_share", "the most of one")],
        ask.on_every_moment([told(row) for row in ask.spread(ARRIVALS, over="user_id", of="queued")], nothing),
        told(everybody),
    )


def cost(ask: Asking) -> Answer:
    """Device time, and how much of it was for nothing."""
    ask, by = ask.or_by(By.TYPE)
    line, about = ask.line(by), "Device time of attempts that ended, and the part of it whose result was lost"
    if by is By.WORKER:
        rows = [_with_wasted_share(row) for row in ask.sums(ATTEMPTS)]
        totals = _with_wasted_share(added_up(rows, ("attempts", "device_seconds", "wasted_seconds")))
        own = [count("attempts")]
    else:
        about += "; per asset: of completed jobs"
        rows = [_with_price(_with_wasted_share(row)) for row in _work(ask, USE if by is By.USER else OUTPUT)]
        totals = _with_price(_with_wasted_share(added_up(rows, _COUNTS)))
        own = [count("completed"), count("assets"), seconds("device_seconds_per_asset", "per asset")]
    device = [
        seconds("device_seconds", "device"),
        seconds("wasted_seconds", "wasted"),
        share("wasted_share", "wasted %"),
    ]
    return ask.answer(f"{about}.", [line], [*device, *own], rows, totals)


def _work(ask: Asking, fact: Fact) -> list[Row]:
    return ask.on_every_moment(ask.sums(fact), _NOTHING)


def _with_failed_share(row: Row) -> Row:
    return row | {"failed_share": part(row["failed"], row["completed"] + row["failed"] + row["cancelled"])}


def _with_wasted_share(row: Row) -> Row:
    return row | {"wasted_share": part(row["wasted_seconds"], row["device_seconds"])}


def _with_price(row: Row) -> Row:
    return row | {"device_seconds_per_asset": part(row["device_seconds"], row["assets"])}
