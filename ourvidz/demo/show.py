"""The demo from its first line to its last."""

import io
import json
import time
from pathlib import Path
from typing import Any, Final

from PIL import Image
from rich.console import Console
from sqlalchemy import select

from ourvidz import loopback_pictures
from ourvidz.contact_sheet import Cell, Strip, contact_sheet
from ourvidz.demo.orders import Order, orders
from ourvidz.demo.service import DemoFailed, Service, embedded
from ourvidz.demo.watching import watch
from ourvidz.inspect.document import document
from ourvidz.inspect.reading import situation_of
from ourvidz.inspect.terminal import render
from ourvidz.loopback_pictures import LoopbackPictures
from ourvidz.loopback_receiver import LoopbackReceiver
from ourvidz.processes.lifelines import Stop
from ourvidz.settings import Settings
from statemachine.job import Asset, Job
from statemachine.store.schema import job_events, job_leases
from workers.models import make_tiny
from workers.videos import frames_of

MODELS: Final = {
    "sdxl_model": "tiny-sdxl",
    "sdxl_ip_adapter": "tiny-ip-adapter",
    "wan_model": "tiny-wan",
    "wan_vace_model": "tiny-wan-vace",
    "qwen_model": "tiny-qwen",
}
"""Setting → folder of the tiny model that serves it."""


def main(settings: Settings, output: Path) -> int:
    """Run the demo into `output`. 0 when every job completed and the killed one tells of it, 1 otherwise."""
    console = Console()
    stop = Stop().listen()
    folder = output / time.strftime("%Y%m%d-%H%M%S")
    folder.mkdir(parents=True)
    console.print(f"[bold]ourvidz demo[/bold]: everything it makes is in {folder}", soft_wrap=True)
    console.print(
        "1. tiny SDXL, IP-Adapter, WAN, VACE and Qwen, made here: the real code paths, small numbers", style="dim"
    )
    make_tiny(output / "models")
    models = {name: output / "models" / place for name, place in MODELS.items()}
    pictures = {"dawn.png": loopback_pictures.dawn(), "night.png": loopback_pictures.night()}
    with LoopbackReceiver(log=folder / "callbacks.jsonl") as receiver, LoopbackPictures(pictures) as server:
        more = {
            "callback_url": receiver.url,
            "allowed_reference_hosts": server.host,
            "checkpoint_seconds": 0.0,  # the demo's jobs take seconds, and the one that is killed is to go on
        }
        own = embedded(settings, folder, models, more)
        console.print("2. the service: embedded Valkey, SQLite, a worker with its engine process", style="dim")
        with Service(own, folder / "service.log") as service:
            try:
                ordered = orders({name: server.url(name) for name in pictures})
                return _show(console, stop, service, receiver, folder, ordered, pictures)
            except DemoFailed as failure:
                console.print(f"[bold red]the demo failed:[/bold red] {failure}", soft_wrap=True)
                console.print(f"what the service said: {folder / 'service.log'}", soft_wrap=True)
                return 1


def _show(
    console: Console,
    stop: Stop,
    service: Service,
    receiver: LoopbackReceiver,
    folder: Path,
    ordered: list[Order],
    pictures: dict[str, bytes],
) -> int:
    console.print(
        f"3. {len(ordered)} payloads, pushed as the producer pushes them: LPUSH sdxl_queue …, LPUSH wan_queue …",
        style="dim",
    )
    for order in ordered:
        service.redis.lpush(order.queue, order.payload)
    killed = watch(console, stop, service, ordered)
    bad = [row for row in service.rows([order.job_id for order in ordered]) if row["state"] != "completed"]
    if bad:
        raise DemoFailed(f"job {bad[0]['id']} has {bad[0]['state']}: {bad[0]['error_message']}")
    receiver.wait_for(2 * len(ordered), seconds=20)
    outcomes = [d for d in receiver.deliveries if d.body["status"] == "completed"]
    strips = [_strip(service, order, pictures) for order in ordered]
    sheet = folder / "contact-sheet.png"
    contact_sheet(strips, sheet)
    console.print()
    story = document(situation_of(service.store, killed))
    console.print(render(story, width=console.width))
    _judge(service, killed, story)
    made = sum(order.wish.images for order in ordered)
    console.print()
    console.print(f"[green]{len(ordered)} jobs completed, {made} files, {len(outcomes)} callbacks[/green]")
    for name, path in (
        ("contact sheet", sheet),
        ("files", folder / "buckets"),
        ("callbacks", folder / "callbacks.jsonl"),
        ("history", service.settings.data_dir / "ourvidz.sqlite"),
        ("service log", folder / "service.log"),
    ):
        console.print(f"  {name:<14} {path}", soft_wrap=True)
    return 0


def _judge(service: Service, killed: str, story: dict[str, Any]) -> None:
    """The history must tell what was done to the job, and that it went on from where it was."""
    outcomes = [attempt["outcome"] for attempt in story["attempts"] if attempt["stage"] == "generating"]
    with service.store.read() as connection:
        mine = select(job_events.c.kind, job_events.c.data).where(job_events.c.job_id == killed)
        events = connection.execute(mine.order_by(job_events.c.version)).all()
        leases = connection.execute(select(job_leases.c.job_id)).all()
    if "interrupted" not in [event.kind for event in events] or outcomes != ["interrupted", "succeeded"]:
        raise DemoFailed(f"the killed job's history shows {outcomes}, not an interruption and two attempts")
    steps = [json.loads(event.data)["step"] for event in events if event.kind == "checkpointed"]
    if steps != sorted(set(steps)):
        raise DemoFailed(f"steps that were done have been done again: {steps}")
    if leases:
        raise DemoFailed("a finished job still has a lease")


def _strip(service: Service, order: Order, pictures: dict[str, bytes]) -> Strip:
    """A job's references and what it made of them."""
    job, wish = service.store.load(order.job_id), order.wish
    cells = [
        Cell(Image.open(io.BytesIO(pictures[name])), f"{role} reference", reference=True)
        for role, name in wish.references.items()
    ]
    for asset in job.current_assets:
        cells += _cells(asset, _file(service, asset))
    title = wish.job_type if wish.mode == "none" else f"{wish.job_type} · {wish.mode} {wish.strength:g}"
    return Strip(title.replace("·", "-"), _below(job, wish.prompt), cells)


def _below(job: Job, prompt: str) -> str:
    way = job.media.reference_way if job.media is not None else None
    return prompt if way is None else f"{way}: {prompt}"


def _file(service: Service, asset: Asset) -> bytes:
    root = service.settings.storage_dir
    assert root is not None, "the demo stores in a folder of its own"
    path = root / str(asset.bucket) / str(asset.key)
    if not path.is_file():
        raise DemoFailed(f"{path} is not there")
    return path.read_bytes()


def _cells(asset: Asset, data: bytes) -> list[Cell]:
    """A picture; of a video its first, middle and last frame."""
    if asset.content_type == "image/png":
        return [Cell(Image.open(io.BytesIO(data)), f"seed {asset.seed}")]
    shown = {0: "first frame", asset.frames // 2: f"frame {asset.frames // 2 + 1}", asset.frames - 1: "last frame"}
    return [Cell(frame, shown[index]) for index, frame in frames_of(data, shown).items()]
