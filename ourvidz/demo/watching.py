"""Showing the demo's jobs as they move, and killing the engine process in the middle of one."""

import os
import signal
import time
from typing import Any, Final

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from ourvidz.demo.orders import Order
from ourvidz.demo.service import DemoFailed, Service
from ourvidz.processes.lifelines import Stop

LIMIT_SECONDS: Final = 600.0
LOOK_SECONDS: Final = 0.02
_COLUMNS: Final = (
    TextColumn("   {task.fields[short]}  {task.fields[kind]:<34}", markup=False),
    TextColumn("{task.fields[state]:<13}", markup=False),
    BarColumn(bar_width=16),
    TextColumn("{task.fields[what]}", markup=False),
)


def watch(console: Console, stop: Stop, service: Service, orders: list[Order]) -> str:
    """Until all are finished. The engine dies by our hand in the job with the most images: returns that job's id."""
    victim = max(orders, key=lambda order: order.wish.images)
    killed = False
    until = time.monotonic() + LIMIT_SECONDS
    with Progress(*_COLUMNS, console=console) as progress:
        tasks = {order.job_id: _task(progress, order) for order in orders}
        while time.monotonic() < until:
            if stop.draining.is_set():
                raise DemoFailed("interrupted")
            rows = {row["id"]: row for row in service.rows([order.job_id for order in orders])}
            for job_id, row in rows.items():
                _show(progress, tasks[job_id], row, again=killed and job_id == victim.job_id)
            if not killed and victim.job_id in rows:
                killed = _kill(progress, service, rows[victim.job_id])
            if len(rows) == len(orders) and all(row["finished_at"] is not None for row in rows.values()):
                break
            time.sleep(LOOK_SECONDS)
        else:
            raise DemoFailed(f"not finished after {LIMIT_SECONDS:g} s")
    if not killed:
        raise DemoFailed("the six-image job was over before its engine could be killed")
    return victim.job_id


def _task(progress: Progress, order: Order) -> TaskID:
    wish = order.wish
    kind = wish.job_type if wish.images == 1 else f"{wish.job_type} × {wish.images}"
    what = "" if wish.mode == "none" else f" · {wish.mode}"
    return progress.add_task("", total=1, short=order.job_id[:8], kind=kind + what, state="pushed", what="")


def _show(progress: Progress, task: TaskID, row: dict[str, Any], *, again: bool) -> None:
    step, of = _step(row)
    drawing = row["state"] == "generating"
    drawn = row["finished_at"] is not None or row["state"] in ("uploading", "callback")
    what = f"step {step} of {of}" if of and drawing else ""
    if again and drawing and row["attempts"]:
        what += "  (second attempt)" if what else "the engine is started again"
    shown = step if drawing else 0
    progress.update(task, total=of or 1, completed=(of or 1) if drawn else shown, state=row["state"], what=what)


def _kill(progress: Progress, service: Service, row: dict[str, Any]) -> bool:
    """Kill the engine once the job is a third through its steps. Says whether it did."""
    step, of = _step(row)
    if not of or row["state"] != "generating" or not of // 3 <= step < of:
        return False
    pid = service.engine_pid()
    os.kill(pid, signal.SIGKILL)
    progress.console.print(
        f"   [bold]kill -9[/bold] of the engine process {pid} at step {step} of {of}", highlight=False
    )
    return True


def _step(row: dict[str, Any]) -> tuple[int, int]:
    told = row.get("progress") or {}
    return int(told.get("step", 0)), int(told.get("of", 0))
