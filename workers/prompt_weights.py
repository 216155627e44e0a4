"""Weights in prompts, as people write them: `(red:1.2)`, `(red)`, `[red]`. Imports no torch.

`(words:1.2)` weighs its words 1.2, `(words)` 1.1 and `[words]` 1 / 1.1; nested ones multiply. A bracket or a backslash
behind a backslash is the character itself. Everything else is text: brackets without a partner, brackets around
nothing, `c++`, `a--b`, and a number that is no weight, as in `(16:9)`.
"""

import re
from typing import Final, NamedTuple

RAISED: Final = 1.1
LOWEST: Final = 0.0
HIGHEST: Final = 2.0
"""A number outside of these is no weight but text; a product is brought to the nearer one. At 0 the words are as good
as not there; beyond 1.6 pictures begin to break."""

_LARGE: Final = 1e100
"""Of a product on its way: infinity times 0 would be no number."""

_PARTNER: Final = {")": "(", "]": "["}
_TOKEN: Final = re.compile(
    r"""
      \\ (?P<escaped> [()\[\]\\] )
    | (?P<opening> [(\[] )
    | : \s* (?P<number> [0-9]+ (?: \.[0-9]* )? | \.[0-9]+ ) \s* \)
    | (?P<closing> [)\]] )
    | (?P<text> [^()\[\]\\:]+ | . )
    """,
    re.VERBOSE | re.DOTALL,
)


class Weighted(NamedTuple):
    """Words and how much they count; 1 is as they are."""

    text: str
    weight: float


def weighted(prompt: str) -> list[Weighted]:
    """Return the prompt's texts in order, each with its weight, no two neighbours with the same.

    Text without weights comes back as it is; blanks belong to their neighbours. A bracket that weighs ends a word, as
    it does for the encoders, so what a policy reads as two words they do, too. Never raises.
    """
    pieces, weighing = _pieces(prompt)
    found: list[Weighted] = []
    factors = [1.0]
    bracket = False
    for place, piece in enumerate(pieces):
        if place in weighing:
            factor = weighing[place]
            if factor is None:
                factors.pop()
            else:
                factors.append(min(factors[-1] * factor, _LARGE))
            bracket = True
        else:
            _append(found, piece, round(min(max(factors[-1], LOWEST), HIGHEST), 4), apart=bracket)
            bracket = False
    return found


def text_of(found: list[Weighted]) -> str:
    """Return the words of what `weighted` found, without any weight."""
    words = ""
    for part in found:
        words += _gap(words, part.text) + part.text
    return words


def escaped(text: str) -> str:
    """Return the prompt that `weighted` reads as this text and nothing else."""
    return re.sub(r"([()\[\]\\])", r"\\\1", text)


def _pieces(prompt: str) -> tuple[list[str], dict[int, float | None]]:
    """The prompt cut up, and which of the pieces are brackets that weigh: the factor of an opening, None of a closing.

    A closing bracket belongs to the nearest open one of its kind; what was opened in between stays text.
    """
    pieces: list[str] = []
    weighing: dict[int, float | None] = {}
    open_at: list[tuple[str, int]] = []
    open_count = {"(": 0, "[": 0}
    filled = -1  # the last piece that has something to weigh
    for token in _TOKEN.finditer(prompt):
        kind, piece = token.lastgroup, token[0]
        if kind == "number" and not LOWEST <= float(token["number"]) <= HIGHEST:
            filled = len(pieces)
            pieces.append(piece[:-1])
            kind, piece = "closing", ")"
        if kind == "opening":
            open_count[piece] += 1
            open_at.append((piece, len(pieces)))
        elif kind in ("closing", "number") and open_count[_PARTNER[piece[-1]]]:
            at = _opened(open_at, open_count, _PARTNER[piece[-1]])
            if filled > at:
                weighing[at] = _factor(token["number"] if kind == "number" else None, piece)
                weighing[len(pieces)] = None
            else:
                filled = len(pieces)
        else:
            filled = len(pieces) if piece.strip() else filled
        pieces.append(token["escaped"] or piece)
    return pieces, weighing


def _opened(open_at: list[tuple[str, int]], open_count: dict[str, int], kind: str) -> int:
    while True:
        bracket, at = open_at.pop()
        open_count[bracket] -= 1
        if bracket == kind:
            return at


def _factor(number: str | None, closing: str) -> float:
    if number is not None:
        return float(number)
    return RAISED if closing == ")" else 1 / RAISED


def _append(found: list[Weighted], text: str, weight: float, *, apart: bool) -> None:
    if found and (found[-1].weight == weight or not text.strip()):
        last = found.pop()
        found.append(Weighted(last.text + (_gap(last.text, text) if apart else "") + text, last.weight))
    elif found and not found[-1].text.strip():
        found[-1] = Weighted(found[-1].text + text, weight)
    else:
        found.append(Weighted(text, weight))


def _gap(before: str, after: str) -> str:
    """What keeps two words apart that only a bracket stood between."""
    return " " if before and after and not (before[-1].isspace() or after[0].isspace()) else ""
