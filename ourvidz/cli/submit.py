"""`jobs submit`: the same door as the producer's lists, from a file, from stdin or from options."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ourvidz.cli.errors import CommandError
from ourvidz.cli.face import Face, face_of, note, say, say_json
from ourvidz.exit_codes import ExitCode

if TYPE_CHECKING:
    from statemachine.admission import Admission, DeadLetter, NewJob


def submit(
    ctx: typer.Context,
    file: Annotated[
        str | None, typer.Argument(help="A payload as JSON; - reads stdin.", metavar="[FILE|-]", show_default=False)
    ] = None,
    job_type: Annotated[str | None, typer.Option("--type", help="The job type, such as sdxl_image_fast.")] = None,
    prompt: Annotated[str | None, typer.Option(help="What to make; --prompt=… if it begins with a dash.")] = None,
    negative_prompt: Annotated[str | None, typer.Option(help="What to avoid; built when not given.")] = None,
    num_images: Annotated[int | None, typer.Option(help="How many pictures.")] = None,
    seed: Annotated[int | None, typer.Option(help="Drawn once when not given.")] = None,
    steps: Annotated[int | None, typer.Option(help="Denoising steps.")] = None,
    guidance: Annotated[float | None, typer.Option(help="Guidance scale.")] = None,
    size: Annotated[str | None, typer.Option(help="In pixels.", metavar="WIDTH*HEIGHT")] = None,
    reference: Annotated[str | None, typer.Option(help="A picture to hold to.", metavar="URL")] = None,
    start: Annotated[str | None, typer.Option(help="A video's first frame.", metavar="URL")] = None,
    end: Annotated[str | None, typer.Option(help="A video's last frame.", metavar="URL")] = None,
    strength: Annotated[float | None, typer.Option(help="How close to the references, 0.1 to 1.")] = None,
    reference_type: Annotated[
        str | None, typer.Option(help="What SDXL takes of it: style, composition or character.")
    ] = None,
    user: Annotated[str | None, typer.Option(help="The owner; drawn when not given.", metavar="UUID")] = None,
    job_id: Annotated[str | None, typer.Option("--id", help="Drawn when not given.", metavar="UUID")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Watch the job until it is finished.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="A document for programs.")] = False,
) -> None:
    """Submit one job and print its id. What Redis would refuse is refused here, and kept just as it would be there.

    \b
    Example:
        ourvidz jobs submit --type sdxl_image_fast --prompt "a heron at dawn" --num-images 3 --wait
        ourvidz jobs submit payload.json
    """
    face = face_of(ctx)
    wishes = {
        "sample_steps": steps,
        "sample_guide_scale": guidance,
        "size": size,
        "image": reference,
        "first_frame": start,
        "last_frame": end,
        "reference_strength": strength,
        "reference_type": reference_type,
    }
    config = {name: value for name, value in wishes.items() if value is not None}
    if file is not None:
        given = (job_type, prompt, negative_prompt, num_images, seed, user, job_id)
        if config or any(value is not None for value in given):
            raise typer.BadParameter("a payload comes from FILE or from options, not from both")
        raw = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    else:
        if job_type is None or prompt is None:
            raise typer.BadParameter("wanted FILE, or --type and --prompt")
        raw = _payload(
            job_type,
            prompt,
            num_images=num_images,
            seed=seed,
            negative_prompt=negative_prompt,
            user_id=user,
            job_id=job_id,
            config=config,
        )
    admission, refusal = admit(face, raw)
    if as_json and not wait:
        say_json({"schema": 1, "id": admission.job_id, "verdict": admission.verdict, "refused": refusal})
    elif admission.job_id is not None and not as_json:
        say(admission.job_id)
    if refusal is not None:
        raise CommandError(refusal, ExitCode.REFUSED)
    if admission.verdict == "duplicate":
        note("this payload was known already; nothing new was queued")
    if wait and admission.job_id is not None:
        from ourvidz.cli.watch import follow

        follow(face, [admission.job_id], as_json=as_json)


def admit(face: Face, raw: bytes) -> "tuple[Admission, str | None]":
    """Give a payload to the store and return its verdict and, where it was refused, why."""
    settings = face.settings()
    with face.store() as store:
        arrival = read_arrival(raw, queue=_queue(raw), now=store.now(), max_bytes=settings.max_payload_bytes)
        admission = store.admit([arrival])[0]
    if admission.verdict == "dead":
        return admission, f"{admission.reason}; the payload is kept as a dead letter"
    return admission, refusal_of(arrival)


def read_arrival(raw: bytes, *, queue: str, now: Any, max_bytes: int, source: str = "cli") -> "NewJob | DeadLetter":
    """Read a payload as ingress does."""
    from workers.arrivals import read
    from workers.ingress import draw_seed

    return read(raw, queue=queue, source=source, now=now, draw_seed=draw_seed, max_bytes=max_bytes)


def refusal_of(arrival: "NewJob | DeadLetter") -> str | None:
    """Why an arrival will not be worked on; None when it will."""
    from statemachine.admission import DeadLetter
    from statemachine.events import OutcomeDecided

    if isinstance(arrival, DeadLetter):
        return arrival.reason
    return next((event.message for event in arrival.events if isinstance(event, OutcomeDecided)), None)


def _payload(job_type: str, prompt: str, **options: Any) -> bytes:
    from workers.arrivals import build_payload
    from workers.presets import PRESETS

    if job_type not in PRESETS:
        raise typer.BadParameter(f"--type wants one of {', '.join(PRESETS)}, got {job_type!r}")
    return json.dumps(build_payload(job_type, prompt, **options), ensure_ascii=True).encode()


def _queue(raw: bytes) -> str:
    """The list that a producer would push this payload onto."""
    from workers.presets import PRESETS, QUEUES

    try:
        named = json.loads(raw)["type"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return QUEUES[0]  # unreadable; `read` says so, with its reason
    return PRESETS[named].queue if isinstance(named, str) and named in PRESETS else QUEUES[0]
