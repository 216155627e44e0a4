"""Prompts of the false year: a few phrases that all use, and words that hardly anybody does."""

import random
from typing import Final

from ourvidz.bench.dice import Lottery, dice_of, zipf

_WHAT: Final = (
    "a heron", "a red lighthouse", "an old market square", "two sisters hiking", "a fox in the snow",
    "a steam train", "waves on a black beach", "a library at night", "a woman reading by a window",
    "a mountain village", "a street musician", "clouds over the old town", "a glass of tea", "a robot gardener",
    "a wooden sailing boat", "a desert caravan", "a cathedral's vault", "a bowl of cherries",
)  # fmt: skip
_WHERE: Final = (
    "at dawn", "in the rain", "over a misty lake", "in a harbour", "under the milky way", "in tall grass",
    "on a cliff", "beside a frozen river", "in a greenhouse", "on the moon", "in Lisbon", "by candlelight",
)  # fmt: skip
_HOW: Final = (
    "oil painting", "35 mm photograph", "watercolour", "soft light", "cinematic, wide shot", "(bokeh lights:1.3)",
    "ink drawing", "highly detailed", "slow camera move", "long exposure", "studio portrait", "pastel colours",
)  # fmt: skip
_SYLLABLES: Final = ("ka", "ri", "mo", "shen", "ta", "lu", "vel", "or", "dan", "fi", "zu", "bel", "pra", "ne", "gos")
RARE_WORDS: Final = 4000


def _common(phrases: tuple[str, ...]) -> Lottery[str]:
    return Lottery(list(zip(phrases, zipf(len(phrases), 0.8), strict=True)))


def _names() -> list[str]:
    dice = dice_of("names")
    return ["".join(dice.choices(_SYLLABLES, k=3)) for _ in range(RARE_WORDS)]


_WHATS: Final = _common(_WHAT)
_WHERES: Final = _common(_WHERE)
_HOWS: Final = _common(_HOW)
_NAMES: Final = Lottery(list(zip(_names(), zipf(RARE_WORDS, 1.0), strict=True)))


def prompt(dice: random.Random) -> str:
    """What somebody might ask for."""
    return f"{_WHATS.draw(dice)} {_WHERES.draw(dice)}, {_HOWS.draw(dice)}, {_NAMES.draw(dice)} style"


def elaborated(text: str, dice: random.Random) -> str:
    """What the enhancer might make of it."""
    more = ", ".join(_HOWS.draw(dice) for _ in range(6))
    return f"{text}, {more}, the scene is calm and full of small details, {_WHERES.draw(dice)}"
