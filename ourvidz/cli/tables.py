"""Tables for the terminal: plain columns that a narrow one still holds."""

from datetime import datetime
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from ourvidz.inspect.situation import is_alive
from ourvidz.masking import mask
from ourvidz.tones import STYLES, style_of
from ourvidz.wording import clause, printable, since, stamp

if TYPE_CHECKING:
    from statemachine.store.pausing import Queue


def jobs_table(rows: list[dict[str, Any]], now: datetime, *, width: int) -> Table:
    """Jobs, one a line. Below 100 columns their ids are cut to 8 characters, which every command understands."""
    table = _table("job", "state", "type", "queued", last="what")
    for row in rows:
        table.add_row(
            Text(row["id"] if width >= 100 else row["id"][:8]),
            Text(row["state"], style=style_of(row["state"])),
            Text(row["job_type"] or "?"),
            Text(since(row["queued_at"], now)),
            Text(what(row, now), style="red" if row["state"] == "failed" else ""),
        )
    return table


def what(row: dict[str, Any], now: datetime) -> str:
    """The most telling thing about a row of `jobs`, in a few words."""
    progress = row.get("progress") or {}
    if row["finished_at"] is None and row["worker_id"] is not None:
        if "step" in progress and "of" in progress:
            return f"step {progress['step']} of {progress['of']}"
        return clause(str(progress.get("doing") or f"on {row['worker_id']}"), 60)
    if row["finished_at"] is None and row["resume_at"] is not None and row["resume_at"] > now:
        return mask(f"again in {since(now, row['resume_at'])}: {clause(row['error_message'] or '', 60)}")
    if row["error_type"] is not None and row["state"] != "completed":
        return mask(clause(f"{row['error_type']}: {row['error_message']}", 120))
    return f"{row['assets']} made" if row["assets"] else ""


def workers_table(rows: list[dict[str, Any]], now: datetime) -> Table:
    """Workers, the latest heard first."""
    table = _table("worker", "state", "device", "heard", "engine", last="models and jobs")
    for row in rows:
        alive = is_alive(row, now)
        state = row["state"] if alive or row["state"] == "stopped" else "silent"
        loaded = [f"{name} (loaded)" if name in row["resident"] else name for name in row["models"]]
        makes = ", ".join(loaded) or f"{len(row['job_types'])} job types without a model"
        about = f"{makes}; {len(row['jobs'])} in hand"
        if row["note"]:
            about += f"; {clause(row['note'])}"
        table.add_row(
            Text(printable(row["worker_id"])),
            Text(printable(state), style="green" if alive else "dim"),
            Text(printable(row["device"])),
            Text(f"{since(row['last_seen_at'], now)} ago"),
            Text(printable(row["engine"] or "-")),
            Text(mask(about)),
        )
    return table


def queues_table(found: "list[Queue]", now: datetime, lists: dict[str, int]) -> Table:
    """Queues, one a line; `lists` says how many payloads of each lie in Redis, where that is known."""
    table = _table("queue", "waiting", "oldest", "later", "in work", "in Redis", last="state")
    for queue in found:
        oldest = "-" if queue.oldest_due_at is None else since(queue.oldest_due_at, now)
        numbers = (str(queue.waiting), oldest, str(queue.resting), str(queue.in_work))
        paused = queue.paused_at is not None
        table.add_row(
            Text(printable(queue.name)),
            *(Text(number) for number in numbers),
            Text(str(lists[queue.name]) if queue.name in lists else "-"),
            Text(pause_of(queue, now), style=STYLES["warn"] if paused else ""),
        )
    return table


def pause_of(queue: "Queue", now: datetime) -> str:
    """`served`, `paused since …`, with who and why."""
    if queue.by is None:
        return "served"
    why = f": {clause(queue.reason)}" if queue.reason else ""
    if queue.paused_at is None:
        return f"served, resumed by {clause(queue.by)}{why}"
    return f"paused {since(queue.paused_at, now)} ago by {clause(queue.by)}{why}"


def letters_table(rows: list[dict[str, Any]]) -> Table:
    """Dead letters, the newest first."""
    table = _table("id", "when", "list", "requeued", last="reason")
    for row in rows:
        table.add_row(
            Text(str(row["id"])),
            Text(stamp(row["at"])),
            Text(printable(row["queue"])),
            Text(f"by {clause(row['requeued_by'] or '?', 20)}" if row["requeued_at"] else "no"),
            Text(mask(clause(row["reason"], 300))),
        )
    return table


def archives_table(rows: list[dict[str, Any]]) -> Table:
    """Archives of old jobs, in the order given."""
    table = _table("archive", "jobs", "ended", "made", last="in")
    for row in rows:
        first, last = (row[f"{which}_finished_at"].date() for which in ("first", "last"))
        table.add_row(
            Text(row["name"]),
            Text(str(row["jobs"])),
            Text(f"{first} to {last}"),
            Text(f"{stamp(row['made_at'])} by {clause(row['made_by'], 20)}"),
            Text(row["place"] if row["done_at"] else f"{row['place']} (not all removed yet: archive once more)"),
        )
    return table


def settings_table(rows: list[tuple[str, str, str]]) -> Table:
    """Name, value, source."""
    table = Table.grid(padding=(0, 2, 0, 0))
    for _ in range(3):
        table.add_column(overflow="fold")
    for name, value, source in rows:
        table.add_row(Text(name), Text(value), Text(source, style="dim"))
    return table


def _table(*columns: str, last: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    for name in columns:
        table.add_column(name, no_wrap=True, overflow="ellipsis")
    table.add_column(last, overflow="fold", ratio=1)
    return table
