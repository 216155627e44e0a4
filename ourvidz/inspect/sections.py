"""A job's page, made of its document: every part in the words in which people read it."""

import json
from typing import Any

from ourvidz.inspect.facts import SHORT_DIGEST, identity, now
from ourvidz.inspect.page import Cell, Gallery, Grid, Page, Section, Shown, pairs, place_of
from ourvidz.inspect.timeline import moment, timeline
from ourvidz.tones import tone_of
from ourvidz.wording import brief, clause, clock, duration, size, stamp


def page_of(d: dict[str, Any], *, events: bool = False) -> Page:
    """The whole page; `events`: with the raw history."""
    story = timeline(d)
    sections = [
        identity(d),
        now(d),
        None if story is None else Section(title="Timeline", parts=[story]),
        _section("Anomalies", _anomalies(d)),
        _section("Noted", _noted(d)),
        _section("References", _references(d)),
        _section("Assets", *_assets(d), _gallery(d)),
        _section("Callbacks", _callbacks(d)),
        _section("Cost", _cost(d)),
        _section("Possible then" if d["at"] else "Possible now", _rows([[Cell(act)] for act in d["actions"]])),
        _section("Events", _events(d) if events else None),
    ]
    return Page(
        title=f"{d['job_type'] or 'job'} {d['id']}",
        sentence=Cell(d["sentence"], tone_of(d["state"])),
        moment=_moment(d),
        sections=[section for section in sections if section is not None],
    )


def _moment(d: dict[str, Any]) -> str | None:
    if d["at"] is None:
        return None
    when = f"As it was at {stamp(moment(d['at']['time']))}, version {d['at']['version']}."
    return f"{when} Leases, progress, workers and queues keep no history: of them nothing is shown."


def _section(title: str, *parts: Grid | Gallery | None) -> Section | None:
    given = [part for part in parts if part is not None]
    return Section(title=title, parts=list(given)) if given else None


def _rows(rows: list[list[Cell]], **more: Any) -> Grid | None:
    return Grid(rows=rows, **more) if rows else None


def _anomalies(d: dict[str, Any]) -> Grid | None:
    return _rows(
        [
            [
                Cell(one["kind"].replace("_", " "), "warn"),
                Cell(one["said"] if one["version"] is None else f"version {one['version']}: {one['said']}"),
            ]
            for one in d["anomalies"]
        ]
    )


def _noted(d: dict[str, Any]) -> Grid | None:
    rows = [("degraded", f"{entry['what']}: {entry['why']}") for entry in d["degraded"]]
    rows += [("payload", said) for said in d["disagreements"]]
    rows += [
        ("enhancer", f"skipped: {entry['data']['reason']}")
        for entry in d["events"]
        if entry["kind"] == "enhancement_skipped"
    ]
    if d["media"] is not None and d["media"].get("render_scale") not in (None, "1"):
        rows.append(("model", f"draws at {d['media']['render_scale']} of the size"))
    return pairs(rows) if rows else None


def _references(d: dict[str, Any]) -> Grid | None:
    fetched = {one["role"]: one for one in d["references_fetched"]}
    urls = {one["role"]: one["url"] for one in d["references"]}
    rows = []
    for role in [*urls, *(role for role in fetched if role not in urls)]:
        one = fetched.get(role)
        rows.append(
            [
                Cell(role),
                Cell(f"{one['width']}*{one['height']}" if one else "not fetched", "" if one else "dim"),
                Cell(size(one["bytes"]) if one else ""),
                Cell(one["digest"][:SHORT_DIGEST] if one else "", "dim"),
                Cell(urls.get(role) or f"from {one['host'] if one else 'nowhere'}"),
            ]
        )
    return _rows(rows, right=frozenset({2}))


def _assets(d: dict[str, Any]) -> list[Grid]:
    """Under the folder they share: ids are long, and broken ones cannot be copied."""
    folders: dict[str, list[list[Cell]]] = {}
    for asset in d["assets"]:
        folder, _, name = f"{asset['bucket']}/{asset['key']}".rpartition("/")
        row = [Cell(f"run {asset['run']}")] if d["run"] > 1 else []
        frames = f", {asset['frames']} frames" if asset["frames"] > 1 else ""
        row += [
            Cell(str(asset["index"])),
            Cell(f"{asset['width']}*{asset['height']}{frames}"),
            Cell(size(asset["bytes"])),
            Cell(name if asset["key"] else asset["name"]),
            Cell(f"seed {asset['seed']}"),
        ]
        folders.setdefault(f"in {folder}" if asset["key"] else "in the spool, not uploaded", []).append(row)
    return [Grid(rows=rows, caption=folder) for folder, rows in folders.items()]


def _gallery(d: dict[str, Any]) -> Gallery | None:
    """Every file once: a run that begins behind its generation takes on those of the run before it."""
    stored = {place_of(asset): asset for asset in d["assets"] if asset["key"]}
    shown = [
        Shown(
            place=place,
            content_type=asset["content_type"],
            label=f"{asset['index']}: {asset['width']}*{asset['height']}, seed {asset['seed']}",
        )
        for place, asset in stored.items()
    ]
    return Gallery(files=shown) if shown else None


def _callbacks(d: dict[str, Any]) -> Grid | None:
    return _rows(
        [
            [
                Cell(clock(moment(call["at"]))),
                Cell(call["status"]),
                Cell(f"try {call['try']}"),
                Cell(f"HTTP {call['http_code']}" if call["http_code"] is not None else "no answer"),
                Cell(f"{call['ms']:.0f} ms" if call["ms"] is not None else ""),
                Cell("delivered", "good") if call["delivered"] else Cell(_refusal(call), "bad"),
            ]
            for call in d["callbacks"]
        ],
        right=frozenset({4}),
    )


def _refusal(call: dict[str, Any]) -> str:
    return clause(call["error"] or call["answer"] or "not delivered", 200)


def _cost(d: dict[str, Any]) -> Grid | None:
    """Per stage and in sum. Empty where nothing has ended yet."""
    told = d["cost"]
    stages = [one for one in told["stages"] if one["wait_seconds"] is not None or one["run_seconds"] is not None]
    if not stages:
        return None
    rows = [[Cell(one["stage"]), Cell(str(one["attempts"] or "")), *_seconds(one)] for one in stages]
    if len(rows) > 1:
        rows.append([Cell("in all", "dim"), Cell(""), *_seconds(told)])
    loaded = told["load_seconds"]
    loads = None if not loaded else f"{duration(loaded)} of it went into loading models"
    head = ("stage", "tries", "waited", "ran", "device", "wasted")
    return Grid(rows=rows, head=head, right=frozenset({1, 2, 3, 4, 5}), caption=loads)


def _seconds(one: dict[str, Any]) -> list[Cell]:
    wasted = one["wasted_seconds"]
    plain = [one[f"{name}_seconds"] for name in ("wait", "run", "device")]
    return [
        *(Cell("" if seconds is None else brief(seconds)) for seconds in plain),
        Cell("" if wasted is None else brief(wasted), "warn" if wasted else ""),
    ]


def _events(d: dict[str, Any]) -> Grid | None:
    return _rows(
        [
            [
                Cell(str(event["version"]), "dim"),
                Cell(clock(moment(event["at"]))),
                Cell(event["kind"]),
                Cell(event["to_state"]),
                Cell(json.dumps(event["data"], ensure_ascii=False, sort_keys=True), "dim"),
            ]
            for event in d["events"]
        ],
        long_last=True,
    )
