"""The content policy: what is not drawn at all. One hook, and a default that one can read and extend.

The prompt, and the enhanced one, are judged before the device sees them. Negative prompts are not: they say what is
not wanted. A refusal ends the job as `ContentPolicy` and is never tried again.

A package that registers an entry point in the group `ourvidz.content_policy` replaces the default. It is a function
from a text to the reason of its refusal, or None.
"""

import re
import unicodedata
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Final

from workers.errors import GiveUp

Policy = Callable[[str], str | None]
GROUP: Final = "ourvidz.content_policy"


def _words(table: str) -> frozenset[str]:
    return frozenset(table.split())


MINORS: Final = _words(
    "baby babies child children highschooler highschoolers infant infants juvenile juveniles kid "
    "kids kindergartener minor minors preschooler preteen preteens pubescent prepubescent pupil pupils schoolboy "
    "schoolboys schoolchild schoolchildren schoolgirl schoolgirls teen teenage teenager teenagers teens toddler "
    "toddlers tween tweens underage youngster youngsters"
)
SEXUAL: Final = _words(
    "aroused blowjob bondage breasts cum cumshot dildo erect erection erotic erotica explicit fellatio fetish foreplay "
    "fuck fucked fucking genital genitalia genitals hardcore hentai horny intercourse lewd lingerie masturbate "
    "masturbating masturbation naked nipple nipples nsfw nude nudes nudity orgasm orgy penetrated penetration penis "
    "porn porno pornographic pornography pussy seductive sensual sex sexual sexualised sexualized sexually sexy "
    "sodomy stripper stripping striptease sultry thong threesome topless undressed undressing upskirt vagina "
    "vulva xxx"
)
ALWAYS: Final = _words("loli lolicon lolis shota shotacon shotas toddlercon pedo pedophile pedophilia")
"""These mean both at once."""
ADULT: Final = 18
_AGE: Final = re.compile(
    r"\b(?:aged?\s+)?(\d{1,2})\s*-?\s*(?:years?|yrs?|yr|yo|y/o)\b(?:\s*-?\s*olds?)?|\baged?\s+(\d{1,2})\b"
)
_YOUNG: Final = re.compile(r"\b(little|young|small|tiny)\s+(boy|girl)s?\b")
_WORD: Final = re.compile(r"[^\W\d_]+")


def refusal(text: str) -> str | None:
    """The default: no sexual content about minors. Reads whole words, in any case and width; ages below 18 count."""
    plain = unicodedata.normalize("NFKC", text).casefold()
    words = set(_WORD.findall(plain))
    ages = (int(before or after) for before, after in _AGE.findall(plain))
    young = bool(words & MINORS) or _YOUNG.search(plain) is not None or any(age < ADULT for age in ages)
    if words & ALWAYS or (young and words & SEXUAL):
        return "sexual content about minors"
    return None


def load() -> Policy:
    """The installed policy, or the default. Raises ValueError where several are installed: one must decide."""
    found = list(entry_points(group=GROUP))
    if len(found) > 1:
        raise ValueError(f"{len(found)} content policies are installed ({', '.join(e.value for e in found)}): keep one")
    if not found:
        return refusal
    policy: Policy = found[0].load()
    return policy


def enforce(policy: Policy, *texts: str | None) -> None:
    """Raise GiveUp for the first text that is refused. What was asked is not repeated."""
    for text in texts:
        reason = policy(text) if text else None
        if reason is not None:
            raise GiveUp(f"Invalid parameters: refused by the content policy: {reason}", error_type="ContentPolicy")
