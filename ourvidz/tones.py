"""How words are meant: what went well, what did not, what is going on. The terminal and the web page colour by it."""

from typing import Final, Literal

Tone = Literal["", "dim", "good", "warn", "bad", "busy", "odd"]

_TONES: Final[dict[str, Tone]] = {
    "succeeded": "good",
    "skipped": "good",
    "completed": "good",
    "retry": "warn",
    "interrupted": "warn",
    "assets lost": "warn",
    "refs lost": "warn",
    "superseded": "warn",
    "cancelled": "odd",
    "failed": "bad",
    "running": "busy",
    "generating": "busy",
    "uploading": "busy",
    "enhancing": "busy",
    "fetching_refs": "busy",
    "callback": "busy",
}

STYLES: Final[dict[Tone, str]] = {
    "": "",
    "dim": "dim",
    "good": "green",
    "warn": "color(166)",  # orange: the yellow of most terminals cannot be read on white
    "bad": "red",
    "busy": "color(31)",  # a blue between that is legible on black and on white; cyan is not
    "odd": "magenta",
}
"""Tone → style of rich."""


def tone_of(word: str) -> Tone:
    """The tone of a state or of an attempt's outcome; none for what is neither good nor bad."""
    return _TONES.get(word, "")


def style_of(word: str) -> str:
    """The same as a style of rich."""
    return STYLES[tone_of(word)]
