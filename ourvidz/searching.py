"""Finding jobs by words in what was asked for and in how it failed.

Every word has to be somewhere: in the prompt, in what the enhancer made of it, or in the job's error. Upper and lower
case are the same in every script, and so are the two ways to write an é; line breaks are spaces. What people are not
shown (`masking`) is not found either.
"""

import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import msgspec
from sqlalchemy import Connection

from ourvidz.masking import mask
from ourvidz.wording import printable
from statemachine.store.reading import Filter
from statemachine.store.searching import AT_ONCE, Texts, texts

AROUND: Final = 160
"""Characters that are shown of a text, the first word that was found among them."""


class Excerpt(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of the text in which words were found, on one line, and where in it they stand."""

    where: str
    text: str
    marks: list[tuple[int, int]]


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """The jobs with all the words, the newest first: id → excerpts. `looked_at` jobs were read for it.

    `enough`: it ended with as many as were wanted, and there may be more.
    """

    jobs: dict[str, list[Excerpt]]
    looked_at: int
    enough: bool


class _Content(msgspec.Struct):
    prompt: str | None = None
    enhanced_prompt: str | None = None


_content: Final = msgspec.json.Decoder(_Content)


def search(
    connection: Connection, wanted: Filter, words: Sequence[str], told: Callable[[int], None] | None = None
) -> Found:
    """Read the jobs that fit, the newest first, until `wanted.limit` of them have all the words.

    `told` hears every now and then how many were read.
    """
    folded = [_fold(word) for word in words]
    jobs: dict[str, list[Excerpt]] = {}
    looked_at = 0
    for row in texts(connection, wanted):
        looked_at += 1
        if told is not None and looked_at % AT_ONCE == 0:
            told(looked_at)
        places = _places(row)
        # On the text as it is first: to mask one costs ten times as much as to look through it.
        if not _all_in([_fold(text) for text in places.values()], folded):
            continue
        shown = {where: _shown(text) for where, text in places.items()}
        if not _all_in([_fold(text) for text in shown.values()], folded):
            continue
        excerpts = (excerpt(where, text, folded) for where, text in shown.items())
        jobs[row.job_id] = [found for found in excerpts if found.marks]
        if len(jobs) == wanted.limit:
            return Found(jobs=jobs, looked_at=looked_at, enough=True)
    return Found(jobs=jobs, looked_at=looked_at, enough=False)


def excerpt(where: str, text: str, folded: Sequence[str]) -> Excerpt:
    """The piece of `text` around the first of the words, and all of them that stand in it."""
    marks = _marks(text, folded)
    if len(text) <= AROUND or not marks:
        return Excerpt(where=where, text=text, marks=marks)
    start, end = _window(text, marks)
    before, behind = "…" if start else "", "…" if end < len(text) else ""
    inside = [(max(a, start), min(b, end)) for a, b in marks if a < end and b > start]
    moved = [(a - start + len(before), b - start + len(before)) for a, b in inside]
    return Excerpt(where=where, text=f"{before}{text[start:end]}{behind}", marks=moved)


def _window(text: str, marks: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Where the piece begins and ends: around the first mark, and between words where there are spaces for it."""
    first, _ = marks[0]
    start = max(0, min(first - AROUND // 4, len(text) - AROUND))
    end = min(len(text), start + AROUND)
    if start:
        start = text.find(" ", start, first) + 1 or start
    if end < len(text):
        last = max(stop for begin, stop in marks if begin < end)
        end = max(0, text.rfind(" ", last, end)) or end
    return start, end


def _places(row: Texts) -> Mapping[str, str]:
    """Where it is looked: only what is there."""
    content = _content.decode(row.content) if row.content else _Content()
    error = f"{row.error_type}: {row.error_message}" if row.error_type else row.error_message
    places = {"prompt": content.prompt, "enhanced": content.enhanced_prompt, "error": error}
    return {where: text for where, text in places.items() if text}


def _all_in(texts: Sequence[str], folded: Sequence[str]) -> bool:
    return all(any(word in text for text in texts) for word in folded)


def _fold(text: str) -> str:
    if text.isascii():
        return " ".join(text.lower().split())
    return " ".join(unicodedata.normalize("NFC", text).casefold().split())


def _shown(text: str) -> str:
    return " ".join(printable(mask(unicodedata.normalize("NFC", text))).split())


def _marks(text: str, folded: Sequence[str]) -> list[tuple[int, int]]:
    """Where the words stand in `text`, in order, those that overlap as one. Folding may lengthen: ß becomes ss."""
    origin = [index for index, char in enumerate(text) for _ in char.casefold()]
    whole = text.casefold()
    spans = []
    for word in filter(None, folded):
        at = whole.find(word)
        while at >= 0:
            spans.append((origin[at], origin[at + len(word) - 1] + 1))
            at = whole.find(word, at + len(word))
    marks: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if marks and start < marks[-1][1]:
            marks[-1] = (marks[-1][0], max(end, marks[-1][1]))
        else:
            marks.append((start, end))
    return marks
