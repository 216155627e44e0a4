"""The document of a job, drawn for people. Fits 80 columns; wider terminals get longer bars and the worker's column."""

import json
import textwrap
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ourvidz.wording import clause, clock, duration, plural, printable, size, stamp

STYLES: Final = {
    "succeeded": "green",
    "skipped": "green",
    "completed": "green",
    "retry": "yellow",
    "interrupted": "yellow",
    "assets lost": "yellow",
    "superseded": "yellow",
    "cancelled": "magenta",
    "failed": "red",
    "running": "cyan",
    "generating": "cyan",
    "uploading": "cyan",
    "enhancing": "cyan",
    "fetching_refs": "cyan",
    "callback": "cyan",
}
WIDE: Final = 110
_FIXED: Final = 63
_ASKED: Final = {
    "sample_steps": "steps",
    "sample_guide_scale": "guidance_scale",
    "num_images": "num_images",
    "seed": "seed",
    "frame_num": "frame_num",
}


def render(document: dict[str, Any], *, width: int, events: bool = False) -> RenderableType:
    """The whole of it for a terminal of `width` columns."""
    parts: list[RenderableType] = [
        Text(printable(document["sentence"]), style=f"bold {STYLES.get(document['state'], '')}".strip()),
        Text(),
        _facts(document),
    ]
    if document["attempts"]:
        parts += [Text("\nTimeline", style="bold"), *_timeline(document, width)]
    for title, part in (
        ("Noted", _noted(document)),
        ("Assets", _assets(document)),
        ("Callbacks", _callbacks(document)),
        ("Rejected writes", _rejected(document)),
        ("Events", _events(document) if events else None),
    ):
        if part is not None:
            parts += [Text(f"\n{title}", style="bold"), Padding(part, (0, 0, 0, 2))]
    return Group(*parts)


def moment(text: str) -> datetime:
    """A time of the document."""
    return datetime.fromisoformat(text)


def grid(rows: Iterable[Iterable[str | Text]], *, fold_last: bool = True) -> Table | None:
    """Plain columns; only the last one may wrap. None when there are no rows."""
    listed = [list(row) for row in rows]
    if not listed:
        return None
    table = Table.grid(padding=(0, 2, 0, 0))
    for index in range(len(listed[0])):
        last = index == len(listed[0]) - 1
        table.add_column(no_wrap=not (last and fold_last), overflow="fold" if last else "ellipsis")
    for row in listed:
        table.add_row(*(Text(printable(cell)) if isinstance(cell, str) else cell for cell in row))
    return table


def _facts(d: dict[str, Any]) -> RenderableType:
    times = d["times"]
    rows: list[tuple[str, str]] = [("job", d["id"]), ("type", d["job_type"] or "unknown")]
    if d["prompt"] is not None:
        rows.append(("prompt", d["prompt"] or "(empty)"))
    elif d["resolved"]:
        rows.append(("prompt", "erased"))
    if d["enhanced_prompt"]:
        rows.append(("enhanced", d["enhanced_prompt"]))
    if d["negative_prompt"]:
        built = " (built)" if d["resolved"].get("negative_source") == "built" else ""
        rows.append((f"without{built}", d["negative_prompt"]))
    rows += [(f"{ref['role']} ref", ref["url"]) for ref in d["references"]]
    if d["resolved"]:
        rows.append(("to make", _resolved(d)))
    if d["model"]:
        rows.append(("model", d["model"]))
    if d["user_id"]:
        rows.append(("user", d["user_id"]))
    rows.append(("from", f"{d['source']}, {d['queue']}"))
    queued = stamp(moment(times["queued_at"])) if times["queued_at"] else "?"
    if times["created_at"] and times["queued_at"]:
        before = (moment(times["queued_at"]) - moment(times["created_at"])).total_seconds()
        queued += f", {duration(before)} after it was created" if before >= 1 else ""
    rows.append(("queued", queued))
    table = grid((Text(label, style="dim"), value) for label, value in rows)
    assert table is not None
    return Padding(table, (0, 0, 0, 2))


def _resolved(d: dict[str, Any]) -> str:
    made, asked = d["resolved"], d["asked"]
    said = {
        "size": f"{made['width']}*{made['height']}" if "width" in made else None,
        "steps": made.get("steps"),
        "guidance_scale": made.get("guidance_scale"),
        "num_images": made.get("num_images"),
        "seed": d["seed"],
        "frame_num": made.get("frame_num") if made.get("media") == "video" else None,
    }
    wished = {_ASKED.get(name, name): value for name, value in asked.items()}
    parts = []
    for name, value in said.items():
        if value is None:
            continue
        number = f"{value:g}" if isinstance(value, float) else str(value)
        words = {
            "size": number,
            "steps": f"{number} steps",
            "guidance_scale": f"guidance {number}",
            "num_images": plural(value, made.get("media", "picture").replace("image", "picture"))
            if isinstance(value, int)
            else number,
            "seed": f"seed {number}",
            "frame_num": f"{number} frames",
        }[name]
        wish = wished.get(name)
        parts.append(words if wish is None or wish == value else f"{words} (asked: {clause(str(wish), 40)})")
    return ", ".join(parts)


def _timeline(d: dict[str, Any], width: int) -> Iterator[Text]:
    now = moment(d["now"])
    wide = width >= WIDE
    where_width = 28 if wide else 0
    bar_width = max(6, min(40, width - _FIXED - where_width))
    attempts = d["attempts"]
    runs = [_ran(attempt, now) for attempt in attempts]
    longest = max([*runs, 0.001])
    head = f"  {'stage':<13} try  {'start':<8}  {'wait':>10}  {'run':>10}  {'':<{bar_width}}  outcome"
    yield Text(f"{head:<{_FIXED + bar_width - 2}}" + ("  where" if wide else ""), style="dim")
    run, before = 1, None
    for attempt, ran in zip(attempts, runs, strict=True):
        if attempt["run"] != run:
            run = attempt["run"]
            yield Text(f"  run {run}{_requeued(d, run)}", style="dim")
        outcome = attempt["outcome"] or "running"
        style = STYLES.get(outcome, "")
        line = Text(
            f"  {attempt['stage']:<13} {attempt['attempt']:>3}  {clock(moment(attempt['started_at']))}  "
            f"{duration(attempt['wait_seconds']):>10}  {duration(ran):>10}  "
        )
        line.append(f"{'█' * max(1, round(ran / longest * bar_width)):<{bar_width}}", style=style)
        line.append(f"  {outcome:<11}", style=style)
        where = _where(attempt)
        if wide:
            line.append(f"  {where}", style="dim")
        line.truncate(width, overflow="ellipsis")
        line.rstrip()
        yield line
        notes = [] if wide or where == before else [f"on {where}"]
        if attempt["message"] or attempt["error_type"]:
            notes.append(_why(attempt))
        before = where
        if notes:
            yield _indented("; ".join(notes), width)


def _ran(attempt: dict[str, Any], now: datetime) -> float:
    if attempt["run_seconds"] is not None:
        return float(attempt["run_seconds"])
    return max(0.0, (now - moment(attempt["started_at"])).total_seconds())


def _where(attempt: dict[str, Any]) -> str:
    worker = clause(attempt["worker_id"] or "?", 60)
    return f"{worker} ({attempt['device']})" if attempt["device"] else worker


def _why(attempt: dict[str, Any]) -> str:
    kind, message = attempt["error_type"], attempt["message"]
    said = clause(f"{kind}: {message}" if kind and message and kind != message else kind or message, 400)
    again = f"; again after {duration(attempt['delay'])}" if attempt["delay"] is not None else ""
    return said + again + ("" if attempt["counts"] else " (costs no attempt)")


def _indented(text: str, width: int) -> Text:
    # Wrapped by hand: rich has no hanging indent, and a table would widen the columns above it.
    lines = textwrap.wrap(printable(text), max(20, width - 21), break_on_hyphens=False)
    return Text("\n".join(f"{'':>21}{line}" for line in lines), style="dim")


def _requeued(d: dict[str, Any], run: int) -> str:
    for entry in d["requeued"]:
        if entry["run"] == run:
            why = f": {clause(entry['reason'])}" if entry["reason"] else ""
            return f", requeued {stamp(moment(entry['at']))} by {clause(entry['by'])}{why}"
    return ""


def _noted(d: dict[str, Any]) -> Table | None:
    rows = [("degraded", f"{entry['what']}: {entry['why']}") for entry in d["degraded"]]
    rows += [("payload", said) for said in d["disagreements"]]
    rows += [
        ("enhancer", f"skipped: {entry['data']['reason']}")
        for entry in d["events"]
        if entry["kind"] == "enhancement_skipped"
    ]
    if d["cancel"] is not None:
        rows.append(("cancel", f"asked by {d['cancel']['by']}: {d['cancel']['reason']}"))
    return grid((Text(label, style="dim"), value) for label, value in rows)


def _assets(d: dict[str, Any]) -> Table | None:
    many = d["run"] > 1
    return grid(
        [
            *([f"run {asset['run']}"] if many else []),
            str(asset["index"]),
            f"{asset['width']}*{asset['height']}",
            size(asset["bytes"]),
            f"seed {asset['seed']}",
            f"{asset['bucket']}/{asset['key']}" if asset["key"] else "in the spool, not uploaded",
        ]
        for asset in d["assets"]
    )


def _callbacks(d: dict[str, Any]) -> Table | None:
    return grid(
        [
            clock(moment(call["at"])),
            call["status"],
            f"try {call['try']}",
            f"HTTP {call['http_code']}" if call["http_code"] is not None else "no answer",
            f"{call['ms']:.0f} ms" if call["ms"] is not None else "",
            Text("delivered", style="green") if call["delivered"] else Text(_refusal(call), style="red"),
        ]
        for call in d["callbacks"]
    )


def _refusal(call: dict[str, Any]) -> str:
    said = clause(call["error"] or call["answer"] or "", 200)
    return f"not delivered: {said}" if said else "not delivered"


def _rejected(d: dict[str, Any]) -> Table | None:
    return grid(
        [clock(moment(row["at"])), clause(row["worker_id"] or "?", 40), row["kinds"], clause(row["reason"], 300)]
        for row in d["rejected_writes"]
    )


def _events(d: dict[str, Any]) -> Table | None:
    return grid(
        [
            Text(str(event["version"]), style="dim"),
            clock(moment(event["at"])),
            event["kind"],
            event["to_state"],
            Text(printable(json.dumps(event["data"], ensure_ascii=False, sort_keys=True)), style="dim"),
        ]
        for event in d["events"]
    )
