"""Negative prompts for SDXL when the payload gives none.

Everything is a table that one can read and extend. The prompt is read in whole words ("man" is not found in
"woman", nor "two" in "network"), and people are counted, so that terms against a wrong number of people are
added to scenes of several and to no others.
"""

import re
from collections.abc import Mapping
from typing import Final

QUALITY: Final = ("worst quality", "low quality", "normal quality", "lowres", "blurry", "jpeg artifacts")
ANATOMY: Final = (
    "bad anatomy",
    "deformed",
    "malformed",
    "extra limbs",
    "missing limbs",
    "bad hands",
    "deformed hands",
    "extra fingers",
    "missing fingers",
    "deformed face",
    "distorted features",
)
ARTIFACTS: Final = ("text", "watermark", "logo", "signature")
SAFETY: Final = ("child", "minor")
BASE: Final = QUALITY + ANATOMY + ARTIFACTS + SAFETY
"""For every prompt."""

SEVERAL: Final = (
    "wrong number of people",
    "missing person",
    "extra person",
    "duplicated person",
    "merged bodies",
    "fused faces",
    "conjoined",
)
"""For a scene of several people."""

NOT_ALONE: Final[Mapping[str, str]] = {"two": "solo, one person", "three": "solo, one person, two people"}
ONLY: Final = {"women": ("only women", "missing man"), "men": ("only men", "missing woman")}
"""For a scene of women and men: against either group swallowing the other."""

NUMBERS: Final[Mapping[str, int]] = {
    **dict.fromkeys(("a", "an", "one", "single", "lone", "another"), 1),
    **dict.fromkeys(("two", "both", "twin", "pair", "couple"), 2),
    **dict.fromkeys(("three", "trio", "several", "few", "some", "many", "group", "crowd"), 3),
    **{word: n for n, word in enumerate(("four", "five", "six", "seven", "eight", "nine", "ten"), start=4)},
}
"""Words that say how many. An indefinite number counts as three: several, without a number to hold to."""

_WOMEN: Final = {
    "woman": "women", "girl": "girls", "lady": "ladies", "sister": "sisters", "mother": "mothers",
    "daughter": "daughters", "wife": "wives", "bride": "brides", "female": "females", "girlfriend": "girlfriends",
    "queen": "queens", "actress": "actresses", "grandmother": "grandmothers",
}  # fmt: skip
_MEN: Final = {
    "man": "men", "boy": "boys", "guy": "guys", "gentleman": "gentlemen", "brother": "brothers",
    "father": "fathers", "son": "sons", "husband": "husbands", "groom": "grooms", "male": "males",
    "boyfriend": "boyfriends", "king": "kings", "fisherman": "fishermen", "grandfather": "grandfathers",
}  # fmt: skip
_PERSONS: Final = {
    "person": "people", "friend": "friends", "dancer": "dancers", "soldier": "soldiers", "worker": "workers",
    "child": "children", "adult": "adults", "musician": "musicians", "player": "players", "lover": "lovers",
    "tourist": "tourists", "hiker": "hikers", "student": "students", "partner": "partners",
}  # fmt: skip

PEOPLE: Final[Mapping[str, tuple[str, int]]] = {
    word: (group, at_least)
    for group, table in (("women", _WOMEN), ("men", _MEN), ("persons", _PERSONS))
    for singular, plural in table.items()
    for word, at_least in ((singular, 1), (plural, 2))
}
"""Word → its group and how many it is when no number stands before it."""

GATHERINGS: Final[Mapping[str, int]] = {"couple": 2, "duo": 2, "twins": 2, "trio": 3, "family": 3, "crowd": 3}
"""Words that are several people by themselves, unless people are named after them ("a couple of dancers")."""

REACH: Final = 3
"""Words between a number and its people: "two very old men"."""

_BACK: Final = frozenset({"the", "his", "her", "their", "same", "that", "this"})
_WORD: Final = re.compile(r"\d+|[^\W\d_]+(?:[-'’][^\W\d_]+)*")


def people(prompt: str) -> dict[str, int]:
    """Count the people of a prompt: how many women, men and persons of no told sex. An estimate, at least so many."""
    words = [re.sub(r"['’]s$", "", word) for word in _WORD.findall(prompt.lower())]
    found = {"women": 0, "men": 0, "persons": 0}
    seen: set[str] = set()
    used = -1
    for at, word in enumerate(words):
        if word in GATHERINGS:
            if not any(later in PEOPLE for later in words[at + 1 : at + 2 + REACH]):
                found["persons"] += GATHERINGS[word]
                used = at
            continue
        if word not in PEOPLE:
            continue
        group, count = PEOPLE[word]
        before = words[max(used + 1, at - REACH - 1) : at]
        used = at
        said = [number for number in map(_number, before) if number is not None]
        if word in seen and not said and any(w in _BACK for w in before):
            continue  # "a man … the man": the same one again
        seen.add(word)
        # Of several numbers the largest is meant ("a couple of dancers"); a singular is one whatever stands near it.
        found[group] += max([count, *said]) if count > 1 else 1
    return found


def negative_prompt(prompt: str) -> str:
    """Return the negative prompt for an SDXL `prompt` that came without one."""
    count = people(prompt)
    total = sum(count.values())
    terms = list(BASE)
    if total >= 2:
        terms += SEVERAL
        terms.append(NOT_ALONE["two" if total == 2 else "three"])
        if count["women"] and count["men"]:
            terms += ONLY["women"] + ONLY["men"]
    return ", ".join(terms)


def _number(word: str) -> int | None:
    return min(int(word), 99) if word.isascii() and word.isdigit() and len(word) < 4 else NUMBERS.get(word)
