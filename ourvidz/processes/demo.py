"""`ourvidz demo`: the main job once, for real, with a crash in the middle; and pictures to look at."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import redis
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from sqlalchemy import select

from ourvidz.contact_sheet import Picture, contact_sheet
from ourvidz.inspecting import situation_of
from ourvidz.inspection import document
from ourvidz.inspection_view import render
from ourvidz.loopback_receiver import LoopbackReceiver
from ourvidz.processes.lifelines import Stop
from ourvidz.processes.up import child_environment
from ourvidz.settings import Settings
from statemachine.errors import SchemaMismatch, StoreAway
from statemachine.store import EventStore, open_store
from statemachine.store.reading import jobs_by_id
from statemachine.store.schema import job_events, job_leases, workers
from workers.arrivals import build_payload
from workers.models import make_tiny

LIMIT_SECONDS: Final = 240.0
LOOK_SECONDS: Final = 0.02
USER: Final = "7f3c2a52-8c1b-4b7e-9a55-2f6d1c0e9b11"
ORDERS: Final = (
    ("sdxl_image_fast", 1, 42, "a red lighthouse on a cliff at dawn, oil painting"),
    ("sdxl_image_high", 3, 123456789, "two sisters and a man hiking in the alps, telephoto"),
    ("sdxl_image_high", 6, 7, "café in Lisbon, rainy evening — bokeh lights"),
)


class DemoFailed(Exception):
    """The demo did not show what it is there to show."""


@dataclass(frozen=True)
class Order:
    """One job of the demo."""

    job_id: str
    job_type: str
    images: int
    seed: int
    prompt: str
    payload: bytes


def main(settings: Settings, output: Path) -> int:
    """Run the demo into `output`. 0 when every job completed and the killed one tells of it, 1 otherwise."""
    console = Console()
    stop = Stop().listen()
    output.mkdir(parents=True, exist_ok=True)
    folder = output / time.strftime("%Y%m%d-%H%M%S")
    folder.mkdir()
    console.print(f"[bold]ourvidz demo[/bold]: everything it makes is in {folder}", soft_wrap=True)
    console.print("1. tiny SDXL weights, made here: the real code paths, small numbers", style="dim")
    make_tiny(output / "models")
    model = output / "models" / "tiny-sdxl"
    with LoopbackReceiver(log=folder / "callbacks.jsonl") as receiver:
        own = settings.model_copy(update=_embedded(settings, folder, model, receiver.url))
        console.print("2. the service: embedded Valkey, SQLite, a worker with its engine process", style="dim")
        with _Service(own, folder) as service:
            try:
                return _show(console, stop, service, receiver, folder)
            except DemoFailed as failure:
                console.print(f"[bold red]the demo failed:[/bold red] {failure}", soft_wrap=True)
                console.print(f"what the service said: {folder / 'service.log'}", soft_wrap=True)
                return 1


def _embedded(settings: Settings, folder: Path, model: Path, callback_url: str) -> dict[str, Any]:
    """The embedded defaults, whatever is configured elsewhere: a demo must not touch anybody's service."""
    fresh = Settings(data_dir=folder / "data")
    return {
        "data_dir": fresh.data_dir,
        "database_url": fresh.database_url,
        "spool_dir": fresh.spool_dir,
        "storage_url": f"file://{folder / 'buckets'}",
        "redis_url": None,
        "callback_url": callback_url,
        "callback_secret": None,
        "supabase_url": None,
        "supabase_service_key": None,
        "upstash_redis_rest_url": None,
        "upstash_redis_rest_token": None,
        "sdxl_model": model,
        "engine": "diffusers",
        "device": settings.device,
        "log_format": "json",
        "log_level": "info",
    }


class _Service:
    """`ourvidz up` as a child that ends with us, and our own eyes on its database."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.settings = settings
        self._log = (folder / "service.log").open("wb")
        self._process: subprocess.Popen[bytes] | None = None
        self.store: EventStore
        self.redis: redis.Redis

    def __enter__(self) -> "_Service":
        environment = child_environment(self.settings, None)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "ourvidz.processes", "up", "--parent", str(os.getpid())],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
        )
        try:
            self._wait_until_up()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self._process.kill()  # its children die with it
                self._process.wait()
        self._log.close()

    def _wait_until_up(self) -> None:
        url = self.settings.data_dir / "valkey" / "url"
        self.store = open_store(self.settings.database_url)
        until = time.monotonic() + 60.0
        while time.monotonic() < until:
            if self._process is None or self._process.poll() is not None:
                break
            with suppress(SchemaMismatch, StoreAway):  # not there yet
                self.store.check_schema()
                with self.store.read() as connection:
                    ready = connection.execute(select(workers.c.engine_pid)).first()
                if ready is not None and url.exists():
                    self.redis = redis.Redis.from_url(url.read_text().strip())
                    return
            time.sleep(0.1)
        raise DemoFailed("the service did not come up within 60 s")


def _orders() -> list[Order]:
    made = []
    for job_type, images, seed, prompt in ORDERS:
        payload = build_payload(job_type, prompt, num_images=images, seed=seed, user_id=USER)
        body = json.dumps(payload, ensure_ascii=False).encode()
        made.append(Order(payload["id"], job_type, images, seed, prompt, body))
    return made


def _show(console: Console, stop: Stop, service: _Service, receiver: LoopbackReceiver, folder: Path) -> int:
    orders = _orders()
    console.print("3. three payloads, pushed as the producer pushes them: LPUSH sdxl_queue …", style="dim")
    for order in orders:
        service.redis.lpush("sdxl_queue", order.payload)
    killed = _watch(console, stop, service, orders)
    rows = _rows(service, orders)
    bad = [row for row in rows if row["state"] != "completed"]
    if bad:
        raise DemoFailed(f"job {bad[0]['id']} has {bad[0]['state']}: {bad[0]['error_message']}")
    receiver.wait_for(2 * len(orders), seconds=20)
    outcomes = [d for d in receiver.deliveries if d.body["status"] == "completed"]
    pictures = _pictures(service, orders)
    sheet = folder / "contact-sheet.png"
    contact_sheet(pictures, sheet)
    console.print()
    story = document(situation_of(service.store, killed))
    console.print(render(story, width=console.width))
    _judge(service, killed, story)
    console.print()
    console.print(f"[green]{len(rows)} jobs completed, {len(pictures)} pictures, {len(outcomes)} callbacks[/green]")
    for name, path in (
        ("contact sheet", sheet),
        ("pictures", folder / "buckets"),
        ("callbacks", folder / "callbacks.jsonl"),
        ("history", service.settings.data_dir / "ourvidz.sqlite"),
        ("service log", folder / "service.log"),
    ):
        console.print(f"  {name:<14} {path}", soft_wrap=True)
    return 0


def _watch(console: Console, stop: Stop, service: _Service, orders: list[Order]) -> str:
    """Show the jobs as they move; kill the engine in the middle of the six-image job. Returns that job's id."""
    victim = max(orders, key=lambda order: order.images)
    killed_at: tuple[int, int] | None = None
    columns = (
        TextColumn("   {task.fields[short]}  {task.fields[kind]:<22}", markup=False),
        TextColumn("{task.fields[state]:<11}", markup=False),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[what]}", markup=False),
    )
    until = time.monotonic() + LIMIT_SECONDS
    with Progress(*columns, console=console) as progress:
        tasks: dict[str, TaskID] = {
            order.job_id: progress.add_task(
                "", total=1, short=order.job_id[:8], kind=f"{order.job_type} × {order.images}", state="pushed", what=""
            )
            for order in orders
        }
        while time.monotonic() < until:
            if stop.draining.is_set():
                raise DemoFailed("interrupted")
            rows = {row["id"]: row for row in _rows(service, orders)}
            for job_id, row in rows.items():
                step, of = _step(row)
                done = row["finished_at"] is not None
                what = f"step {step} of {of}" if of and row["state"] == "generating" else ""
                if row["attempts"] and row["state"] == "generating" and row["id"] == victim.job_id and killed_at:
                    what += "  (second attempt)" if what else "the engine is started again"
                progress.update(
                    tasks[job_id],
                    total=of or 1,
                    completed=(of or 1) if done or row["state"] in ("uploading", "callback") else step,
                    state=row["state"],
                    what=what,
                )
            if killed_at is None and victim.job_id in rows:
                step, of = _step(rows[victim.job_id])
                if of and of // 3 <= step < of:
                    pid = _engine_pid(service)
                    os.kill(pid, signal.SIGKILL)
                    killed_at = (step, of)
                    progress.console.print(
                        f"   [bold]kill -9[/bold] of the engine process {pid} at step {step} of {of}", highlight=False
                    )
            if len(rows) == len(orders) and all(row["finished_at"] is not None for row in rows.values()):
                break
            time.sleep(LOOK_SECONDS)
        else:
            raise DemoFailed(f"not finished after {LIMIT_SECONDS:g} s")
    if killed_at is None:
        raise DemoFailed("the six-image job was over before its engine could be killed")
    return victim.job_id


def _rows(service: _Service, orders: list[Order]) -> list[dict[str, Any]]:
    with service.store.read() as connection:
        return jobs_by_id(connection, [order.job_id for order in orders])


def _step(row: dict[str, Any]) -> tuple[int, int]:
    told = row.get("progress") or {}
    return int(told.get("step", 0)), int(told.get("of", 0))


def _engine_pid(service: _Service) -> int:
    with service.store.read() as connection:
        pid = connection.scalar(select(workers.c.engine_pid).order_by(workers.c.last_seen_at.desc()).limit(1))
    if pid is None:
        raise DemoFailed("no worker tells of an engine process")
    return int(pid)


def _judge(service: _Service, killed: str, story: dict[str, Any]) -> None:
    """The history must tell what was done to the job."""
    attempts = [a for a in story["attempts"] if a["stage"] == "generating"]
    outcomes = [a["outcome"] for a in attempts]
    with service.store.read() as connection:
        kinds = list(connection.scalars(select(job_events.c.kind).where(job_events.c.job_id == killed)))
        leases = connection.execute(select(job_leases.c.job_id)).all()
    if "interrupted" not in kinds or outcomes != ["interrupted", "succeeded"]:
        raise DemoFailed(f"the killed job's history shows {outcomes}, not an interruption and two attempts")
    if leases:
        raise DemoFailed("a finished job still has a lease")


def _pictures(service: _Service, orders: list[Order]) -> list[Picture]:
    pictures = []
    root = service.settings.storage_dir
    assert root is not None, "the demo stores in a folder of its own"
    for order in orders:
        for asset in service.store.load(order.job_id).current_assets:
            path = root / str(asset.bucket) / str(asset.key)
            if not path.is_file():
                raise DemoFailed(f"{path} is not there")
            caption = f"{order.job_type}  seed {asset.seed}"
            pictures.append(
                Picture(path=path, caption=caption, below=f"{asset.width} x {asset.height}  {order.prompt}")
            )
    return pictures
