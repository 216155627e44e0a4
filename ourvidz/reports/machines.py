"""What workers did, what they loaded, and what receivers said: `workers`, `models`, `callbacks`."""

from typing import Final

from ourvidz.reports.answer import Answer, Row
from ourvidz.reports.asking import Asking, added_up, by_keys, part
from ourvidz.reports.columns import count, name, seconds, share, size_of
from ourvidz.reports.names import By
from statemachine.store.facts import ATTEMPTS, CALLBACKS, MODELS

_TIMES: Final = ("run_seconds", "device_seconds", "wasted_seconds")
_OUTCOMES: Final = {
    "succeeded": frozenset({"succeeded", "skipped"}),
    "failed": frozenset({"failed", "retry"}),
    "interrupted": frozenset({"interrupted", "superseded"}),
}


def workers(ask: Asking) -> Answer:
    """What each worker did; by anything else, how many were at it."""
    ask, by = ask.or_by(By.WORKER)
    line = ask.line(by)
    found = ask.sums(ATTEMPTS, "worker_id", "outcome")
    rows = [{line.name: key, **_done(those, ask)} for (key,), those in by_keys(found, [line.name]).items()]
    values = [count("attempts"), *(count(outcome) for outcome in _OUTCOMES), seconds("run_seconds", "at work")]
    values += [seconds("device_seconds", "device"), seconds("wasted_seconds", "wasted")]
    if by is By.WORKER:
        values.append(share("device_share", "device of span"))
    else:
        values.insert(0, count("workers"))
    return ask.answer(
        "Attempts that ended; at work: the times of attempts that ran side by side are added up.",
        [line],
        values,
        ask.on_every_moment(rows, _done([], ask)),
        _done(found, ask),
    )


def _done(rows: list[Row], ask: Asking) -> Row:
    told = added_up(rows, ("attempts", *_TIMES))
    for title, outcomes in _OUTCOMES.items():
        told[title] = sum(row["attempts"] for row in rows if row["outcome"] in outcomes)
    who = {row["worker_id"] for row in rows} - {None}
    return told | {"workers": len(who), "device_share": part(told["device_seconds"], ask.span.seconds * len(who))}


def models(ask: Asking) -> Answer:
    """Models that devices loaded or moved, and what that took."""
    keys = [*([ask.line(ask.by)] if ask.by else []), name("model", "model")]
    names = [key.name for key in keys]
    found = ask.sums(MODELS, "model", "kind")
    rows = [dict(zip(names, key, strict=True)) | _changed(those) for key, those in by_keys(found, names).items()]
    return ask.answer(
        "Models that were loaded onto a device; moves: parts of one that changed their place in memory.",
        keys,
        [
            count("loads"),
            seconds("load_seconds", "loading"),
            seconds("mean_load_seconds", "per load"),
            size_of("load_bytes", "loaded"),
            count("moves"),
            seconds("move_seconds", "moving"),
        ],
        rows,
        _changed(found),
    )


def _changed(rows: list[Row]) -> Row:
    loads = added_up([row for row in rows if row["kind"] == "model_loaded"], ("changes", "seconds", "bytes"))
    moves = added_up([row for row in rows if row["kind"] == "model_moved"], ("changes", "seconds"))
    return {
        "loads": loads["changes"],
        "load_seconds": loads["seconds"],
        "mean_load_seconds": part(loads["seconds"], loads["changes"]),
        "load_bytes": loads["bytes"],
        "moves": moves["changes"],
        "move_seconds": moves["seconds"],
    }


def callbacks(ask: Asking) -> Answer:
    """What receivers were told, and what they answered."""
    about = "Requests to receivers; again: not the first of their status and run."
    if ask.by is None:
        found = ask.sums(CALLBACKS, "status", "delivered", "http_code")
        total = sum(row["requests"] for row in found)
        for row in found:
            row |= {"share": part(row["requests"], total), "mean_seconds": part(row["seconds"], row["requests"])}
            row |= {"answer": row["http_code"] or "no answer", "delivered": "yes" if row["delivered"] else "no"}
        totals = added_up(found, ("requests", "repeated", "seconds"))
        totals |= {"share": part(total, total), "mean_seconds": part(totals["seconds"], total)}
        keys = [name("status", "told"), name("answer", "answer"), name("delivered", "delivered")]
        values = [count("requests"), share("share", "share"), count("repeated", "again")]
        return ask.answer(about, keys, [*values, seconds("mean_seconds", "mean")], found, totals)
    line = ask.line(ask.by)
    found = ask.sums(CALLBACKS, "delivered")
    rows = [{line.name: key, **_told(those)} for (key,), those in by_keys(found, [line.name]).items()]
    values = [count("requests"), count("delivered"), count("refused", "not taken"), share("delivered_share", "taken %")]
    return ask.answer(
        about,
        [line],
        [*values, count("repeated", "again"), seconds("mean_seconds", "mean")],
        ask.on_every_moment(rows, _told([])),
        _told(found),
    )


def _told(rows: list[Row]) -> Row:
    sums = added_up(rows, ("requests", "repeated", "seconds"))
    taken = sum(row["requests"] for row in rows if row["delivered"])
    return {
        "requests": sums["requests"],
        "delivered": taken,
        "refused": sums["requests"] - taken,
        "delivered_share": part(taken, sums["requests"]),
        "repeated": sums["repeated"],
        "mean_seconds": part(sums["seconds"], sums["requests"]),
    }
