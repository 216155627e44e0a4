"""`jobs inspect --follow`: the page as it changes, until the job is finished."""

import sys
from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from ourvidz.cli.face import Face, say, say_json
from ourvidz.wording import clock, printable

if TYPE_CHECKING:
    from statemachine.store import EventStore

LOOK_SECONDS: Final = 0.5


def follow_job(face: Face, store: "EventStore", prefix: str, *, events: bool, as_json: bool) -> None:
    """On a terminal the page, drawn anew; elsewhere a line for each change, with `as_json` a document for each."""
    looks = _looks(face, store, prefix)
    if as_json:
        for told in _changes(looks):
            say_json(told, indent=None)
            sys.stdout.flush()
    elif sys.stdout.isatty():
        _draw(face, looks, events=events)
    else:
        _lines(face, looks, events=events)


def _looks(face: Face, store: "EventStore", prefix: str) -> Iterator[dict[str, Any]]:
    """The document, again and again; the last one is of the finished job."""
    from ourvidz.inspect.document import document
    from ourvidz.inspect.reading import situation_of

    while True:
        situation = situation_of(store, prefix, spool_grace=face.spool_grace())
        yield document(situation)
        if situation.job.state.terminal:
            return
        store.wakeups.wait(LOOK_SECONDS)


def _changes(looks: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Those that tell something new: another version, another step, another reason."""
    before = None
    for told in looks:
        live = told["live"] or {}
        told_so = (told["version"], live.get("step"), live.get("doing"), told["why"]["reason"], told["queue_place"])
        if told_so != before:
            yield told
        before = told_so


def _lines(face: Face, looks: Iterator[dict[str, Any]], *, events: bool) -> None:
    from ourvidz.inspect.terminal import render

    console, told = face.console(), dict[str, Any]()
    for told in _changes(looks):
        say(f"{clock(datetime.fromisoformat(told['now']))} {printable(told['sentence'])}")
        sys.stdout.flush()
    say("")
    console.print(render(told, width=console.width, events=events))


def _draw(face: Face, looks: Iterator[dict[str, Any]], *, events: bool) -> None:
    """As much of the page as the terminal is high, and the whole of it at the end."""
    from rich.live import Live

    from ourvidz.inspect.terminal import render

    console, told = face.console(), dict[str, Any]()
    with Live(console=console, auto_refresh=False, transient=True, vertical_overflow="crop") as live:
        for told in looks:
            live.update(render(told, width=console.width, events=events), refresh=True)
    console.print(render(told, width=console.width, events=events))
