"""A job's page as plain values: what the terminal and the web page both draw."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from ourvidz.tones import Tone


class Cell(msgspec.Struct, frozen=True):
    """A piece of text and how it is meant. The text is foreign: whoever draws it makes it harmless."""

    text: str
    tone: Tone = ""


class Grid(msgspec.Struct, frozen=True, kw_only=True):
    """Rows of equal length. `right` are the columns that hold numbers. Only the last column may wrap.

    `long_last`: that one is longer than the others together, and may stand beneath them.
    """

    rows: list[list[Cell]]
    head: tuple[str, ...] = ()
    caption: str | None = None
    right: frozenset[int] = frozenset()
    long_last: bool = False


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the timeline: a time in the queue or an attempt at a stage. `attempt` counts within the run.

    `after` is from the job's arrival, in seconds like the others. `notes` are what there is to say beneath it.
    """

    at: datetime
    after: float
    stage: str
    attempt: int | None
    wait: float | None
    run: float | None
    outcome: str
    worker: str | None = None
    device: str | None = None
    tone: Tone = ""
    notes: tuple[str, ...] = ()

    @property
    def where(self) -> str:
        """`gpu-1-3f9c (cuda:0)`; empty for a time in the queue."""
        if self.worker is None:
            return ""
        return self.worker if self.device is None else f"{self.worker} ({self.device})"


class Remark(msgspec.Struct, frozen=True, kw_only=True):
    """What happened between the steps: an operator's act, a refused write, a worker that was lost before it began."""

    at: datetime
    after: float
    said: str
    tone: Tone = ""


class Timeline(msgspec.Struct, frozen=True, kw_only=True):
    """Steps and remarks as they happened. A bar's full length is `longest` seconds of waiting and running."""

    entries: list[Step | Remark]
    longest: float
    began: datetime


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """A stored file that can be looked at; `place` is its bucket and key."""

    place: str
    content_type: str
    label: str


class Gallery(msgspec.Struct, frozen=True, kw_only=True):
    """Files to be looked at, for whoever can show them. A terminal cannot."""

    files: list[Shown]


class Section(msgspec.Struct, frozen=True, kw_only=True):
    """A part of the page under a title."""

    title: str
    parts: list[Grid | Timeline | Gallery]


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """The whole of it. `moment` is None, or says that this is how the job was, and when."""

    title: str
    sentence: Cell
    moment: str | None
    sections: list[Section]


def pairs(rows: list[tuple[str, str]]) -> Grid:
    """Labels and what they name."""
    return Grid(rows=[[Cell(label, "dim"), Cell(value)] for label, value in rows])


def place_of(asset: Mapping[str, Any]) -> str:
    """Where an asset of the document is stored."""
    return f"{asset['bucket']}/{asset['key']}"
