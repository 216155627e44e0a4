"""The document of a job, drawn for people. Fits 80 columns; wider terminals get longer bars and the worker's column."""

import json
from collections.abc import Iterable
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ourvidz.inspect.timeline import STYLES, moment, timeline
from ourvidz.wording import clause, clock, duration, plural, printable, size, stamp

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
    if document["attempts"] or document["acts"]:
        parts += [Text("\nTimeline", style="bold"), *timeline(document, width)]
    for title, part in (
        ("Noted", _noted(document)),
        ("Assets", _assets(document)),
        ("Callbacks", _callbacks(document)),
        ("Rejected writes", _rejected(document)),
        ("Possible now", grid([[command] for command in document["actions"]])),
        ("Events", _events(document) if events else None),
    ):
        if part is not None:
            parts += [Text(f"\n{title}", style="bold"), Padding(part, (0, 0, 0, 2))]
    return Group(*parts)


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
        built = d["resolved"].get("negative_source") == "built"
        rows.append(("without", clause(d["negative_prompt"], 100) + " (built)" if built else d["negative_prompt"]))
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


def _noted(d: dict[str, Any]) -> Table | None:
    rows = [("degraded", f"{entry['what']}: {entry['why']}") for entry in d["degraded"]]
    rows += [("payload", said) for said in d["disagreements"]]
    rows += [
        ("enhancer", f"skipped: {entry['data']['reason']}")
        for entry in d["events"]
        if entry["kind"] == "enhancement_skipped"
    ]
    if d["media"] is not None and d["media"].get("render_scale") not in (None, "1"):
        rows.append(("model", f"draws at {d['media']['render_scale']} of the size"))
    return grid((Text(label, style="dim"), value) for label, value in rows)


def _assets(d: dict[str, Any]) -> RenderableType | None:
    """Under the folder they share: ids are long, and broken ones cannot be copied."""
    folders: dict[str, list[list[str]]] = {}
    for asset in d["assets"]:
        folder, _, name = f"{asset['bucket']}/{asset['key']}".rpartition("/")
        row = [f"run {asset['run']}"] if d["run"] > 1 else []
        row += [str(asset["index"]), f"{asset['width']}*{asset['height']}", size(asset["bytes"])]
        row += [name if asset["key"] else asset["name"], f"seed {asset['seed']}"]
        folders.setdefault(f"in {folder}" if asset["key"] else "in the spool, not uploaded", []).append(row)
    parts: list[RenderableType] = []
    for folder, rows in folders.items():
        parts += [Text(printable(folder), style="dim"), grid(rows) or Text()]
    return Group(*parts) if parts else None


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
    return clause(call["error"] or call["answer"] or "not delivered", 200)


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
