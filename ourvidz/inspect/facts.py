"""Who wants what of a job, and how it stands: the upper part of its page. Works on the document."""

from typing import Any, Final

from ourvidz.inspect.page import Section, pairs
from ourvidz.inspect.timeline import moment
from ourvidz.wording import clause, duration, plural, stamp

_ASKED: Final = {
    "sample_steps": "steps",
    "sample_guide_scale": "guidance_scale",
    "num_images": "num_images",
    "seed": "seed",
    "frame_num": "frame_num",
}
SHORT_DIGEST: Final = 12
"""So many characters of a digest tell it from any other that a person has in view; the document has it whole."""


def identity(d: dict[str, Any]) -> Section:
    """What is to be made, of what, for whom, and how it came here."""
    rows: list[tuple[str, str]] = [("job", d["id"]), ("type", d["job_type"] or "unknown")]
    if d["prompt"] is not None:
        rows.append(("prompt", d["prompt"] or "(empty)"))
    elif d["resolved"] or d["erased"]:
        rows.append(("prompt", _erased(d["erased"])))
    if d["enhanced_prompt"]:
        rows.append(("enhanced", d["enhanced_prompt"]))
    if d["negative_prompt"]:
        built = d["resolved"].get("negative_source") == "built"
        rows.append(("without", clause(d["negative_prompt"], 100) + " (built)" if built else d["negative_prompt"]))
    if d["resolved"]:
        rows.append(("to make", _resolved(d)))
    if d["model"]:
        digest = d["model_digest"]
        rows.append(("model", d["model"] + (f", digest {digest[:SHORT_DIGEST]}" if digest else "")))
    if made := _made_with(d):
        rows.append(("made with", made))
    if d["user_id"]:
        rows.append(("user", d["user_id"]))
    rows.append(("from", f"{d['source']}, {d['queue']}"))
    rows.append(("queued", _queued(d["times"])))
    if d["run"] > 1:
        rows += [("run", _run(run)) for run in d["runs"]]
    return Section(title="Job", parts=[pairs(rows)])


def _erased(done: dict[str, Any] | None) -> str:
    if done is None:
        return "not here any more"
    why = f": {clause(done['reason'])}" if done["reason"] else ""
    left = (
        "" if done["files_removed_at"] else "; its files are still to go from storage, `ourvidz jobs erase` does that"
    )
    return f"erased by {clause(done['by'])} at {stamp(moment(done['at']))}{why}{left}"


def now(d: dict[str, Any]) -> Section | None:
    """What goes on with it; nothing for a job that is finished, and for one that is shown as it was."""
    live = d["live"]
    if live is None:
        return None
    lease = d["lease"]
    rows: list[tuple[str, str]] = []
    if lease is not None:
        rows.append(("in hand", _lease(d["attempts"], lease, live)))
        if progress := _progress(live):
            rows.append(("progress", progress))
    else:
        rows.append(("waits", d["why"]["said"]))
        rows.append(("workers", _workers(d)))
    rows.append(("so far", d["safe"]["said"]))
    return Section(title="Now", parts=[pairs(rows)])


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


def _made_with(d: dict[str, Any]) -> str:
    """The worker's version and the libraries', as far as they matter for the bytes."""
    media, versions = d["media"] or {}, dict(d["versions"])
    worker = versions.pop("worker")
    own = versions.pop("ourvidz", worker)  # of the engine that drew it; else of the worker that has the job
    parts = [f"ourvidz {own}"] if own else []
    if media.get("engine"):
        parts.append(f"engine {media['engine']}")
    parts += [f"{name} {version}" for name, version in versions.items()]
    if media.get("threads"):
        parts.append(plural(media["threads"], "thread"))
    return ", ".join(parts)


def _queued(times: dict[str, Any]) -> str:
    if not times["queued_at"]:
        return "?"
    queued = moment(times["queued_at"])
    if not times["created_at"]:
        return stamp(queued)
    before = (queued - moment(times["created_at"])).total_seconds()
    return stamp(queued) + (f", {duration(before)} after it was created" if before >= 1 else "")


def _run(run: dict[str, Any]) -> str:
    by = f" by {clause(run['by'])}" if run["by"] else ""
    begun = f"{run['run']} from {run['stage']}, {stamp(moment(run['begun_at']))}{by}"
    if run["outcome"] is None:
        return begun
    error = f" ({clause(run['error_type'])})" if run["error_type"] else ""
    return f"{begun}: {run['outcome']}{error}"


def _lease(attempts: list[dict[str, Any]], lease: dict[str, Any], live: dict[str, Any]) -> str:
    device = next((a["device"] for a in reversed(attempts) if a["worker_id"] == lease["worker_id"]), None)
    parts = [f"{clause(lease['worker_id'])} ({device})" if device else clause(lease["worker_id"])]
    parts.append(f"token {lease['token']}")
    if live["heartbeat_seconds"] is not None:
        parts.append(f"heard {duration(live['heartbeat_seconds'])} ago")
    if (left := live["expires_seconds"]) is not None:
        parts.append(f"lease for {duration(left)} more" if left > 0 else f"lease over for {duration(-left)}")
    return ", ".join(parts)


def _progress(live: dict[str, Any]) -> str:
    if live["step"] is None:
        return clause(live["doing"] or "", 80)
    parts = [f"step {live['step']} of {live['of']}"]
    if live["per_second"]:
        parts.append(_speed(live["per_second"]))
    if live["left_seconds"] is not None:
        parts.append(f"about {duration(live['left_seconds'])} left")
    return ", ".join(parts)


def _speed(per_second: float) -> str:
    """`2.5 steps/s`, or `14 s a step` where that is the larger number."""
    return f"{per_second:.2g} steps/s" if per_second > 1 else f"{1 / per_second:.2g} s a step"


def _workers(d: dict[str, Any]) -> str:
    able, living = d["workers_able"], d["workers_living"]
    if not able:
        return f"none of {living} that run takes it" if living else "none runs"
    named = ", ".join(clause(worker, 60) for worker in able[:3]) + (" and others" if len(able) > 3 else "")
    return f"{len(able)} of {living} that run {'takes' if len(able) == 1 else 'take'} it: {named}"
