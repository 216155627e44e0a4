"""What a value of a payload must be. Every refusal is one sentence: what was wanted, what came, what is allowed.

The validators are pydantic's; their sentences are ours, because a producer's developer reads them in a callback.
"""

import hashlib
import json
import math
import re
import unicodedata
from collections.abc import Callable
from typing import Any, Final

from pydantic_core import PydanticCustomError

MAX_PROMPT: Final = 10_000
"""Characters of a prompt or a negative prompt."""
MAX_URL: Final = 8_192
"""Characters of a reference's URL. Signed ones are long."""

_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_SURROGATE: Final = re.compile(r"[\ud800-\udfff]")
_INT64: Final = 2**63


def canonical(value: Any) -> bytes:
    """JSON with sorted keys, no whitespace and nothing but ASCII: what digests are made of."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode("ascii")


def digest(value: Any) -> str:
    """The sha256 of the canonical JSON, in hex: the same content in other whitespace or key order is the same."""
    return hashlib.sha256(canonical(value)).hexdigest()


def printable(text: str, limit: int = 60) -> str:
    """Return `text` shortened, with every character that cannot be shown or stored replaced."""
    head = "".join(ch if ch.isprintable() else "\ufffd" for ch in text[:limit])
    return head if len(text) <= limit else f"{head}…"


def shown(value: Any, *, private: bool = False) -> str:
    """Say what came, in a few printable words; of a `private` value only its kind and size."""
    match value:
        case None | bool():
            return {None: "null", True: "true", False: "false"}[value]
        case str() if private:
            return f"a string of {len(value)} characters"
        case str():
            return f'"{printable(value)}"'
        case int() if not -_INT64 <= value < _INT64:
            return (
                str(value) if value.bit_length() <= 128 else f"a number of about {value.bit_length() * 3 // 10} digits"
            )
        case int() | float():
            return str(value)
        case list():
            return f"a list of {len(value)}"
        case dict():
            return f"an object of {len(value)} fields"
    return f"a {type(value).__name__}"


def plain(value: Any) -> Any:
    """Return a scalar that every JSON writer and both databases take; anything else as `shown` says it."""
    match value:
        case None | bool():
            return value
        case int() if -_INT64 <= value < _INT64:
            return value
        case float() if math.isfinite(value):
            return value
        case str():
            return printable(value, 200)
    return shown(value)


def refuse(wanted: str, got: Any, *, private: bool = False) -> PydanticCustomError:
    """The refusal of one value, to be raised: `must be <wanted>, got <what came>`."""
    sentence = f"must be {wanted}, got {shown(got, private=private)}"
    return PydanticCustomError("refused", "{sentence}", {"sentence": sentence})


def uuid(value: Any) -> str | None:
    """Return the canonical lower-case form if `value` is a UUID with hyphens, else None."""
    return value.lower() if isinstance(value, str) and _UUID.fullmatch(value) else None


def identifier(value: Any) -> str:
    """A UUID, in its canonical form."""
    found = uuid(value)
    if found is None:
        raise refuse("a UUID like 7f3c2a52-8c1b-4b7e-9a55-2f6d1c0e9b11", value)
    return found


def whole(lowest: int, highest: int) -> Callable[[Any], int]:
    """A whole number of that range. JSON has one kind of number, so 25.0 is 25; true and "25" are none."""

    def check(value: Any) -> int:
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool) or not lowest <= value <= highest:
            raise refuse(f"a whole number from {lowest} to {highest}", value)
        return value

    return check


def number(lowest: float, highest: float) -> Callable[[Any], float]:
    """A finite number of that range."""

    def check(value: Any) -> float:
        # The comparison comes before float(): an integer of 400 digits has no float.
        if isinstance(value, bool) or not isinstance(value, int | float) or not lowest <= value <= highest:
            raise refuse(f"a number from {lowest:g} to {highest:g}", value)
        return float(value)

    return check


def one_of(*allowed: str | int) -> Callable[[Any], Any]:
    """One of a few strings or numbers."""
    words = [f'"{a}"' if isinstance(a, str) else str(a) for a in allowed]
    wanted = words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"

    def check(value: Any) -> Any:
        if isinstance(value, bool) or not isinstance(value, str | int | float) or value not in allowed:
            raise refuse(wanted, value)
        return allowed[allowed.index(value)]  # 3.0 stands for 3

    return check


def text(highest: int, *, blank: bool) -> Callable[[Any], str]:
    """Any Unicode up to `highest` characters; its words never stand in a refusal."""

    def check(value: Any) -> str:
        wanted = f"a string of at most {highest:,} characters" + ("" if blank else " that is not blank")
        if not isinstance(value, str) or len(value) > highest or not (blank or _has_ink(value)):
            raise refuse(wanted, value, private=True)
        if "\0" in value:
            raise refuse("a string without NUL characters", value, private=True)
        if _SURROGATE.search(value):
            raise refuse("valid Unicode (no lone surrogates)", value, private=True)
        return value

    return check


def url(value: Any) -> str:
    """An http or https URL. Whether its host may be asked is decided when it is fetched."""
    given = text(MAX_URL, blank=False)(value)
    if not re.match(r"https?://[^\s/]", given, re.IGNORECASE) or any(not ch.isprintable() for ch in given):
        raise refuse("an http or https URL", given, private=True)
    return given


def size(multiple: int, lowest: int, highest: int, most_pixels: int) -> Callable[[Any], tuple[int, int]]:
    """`width*height` in pixels, both multiples of what the model's latents take."""
    wanted = (
        f'"width*height" in pixels, each a multiple of {multiple} from {lowest} to {highest}, '
        f"at most {most_pixels:,} together"
    )

    def check(value: Any) -> tuple[int, int]:
        found = re.fullmatch(r"([0-9]{1,5})\*([0-9]{1,5})", value) if isinstance(value, str) else None
        if found is None:
            raise refuse(wanted, value)
        width, height = int(found[1]), int(found[2])
        fits = all(lowest <= side <= highest and side % multiple == 0 for side in (width, height))
        if not fits or width * height > most_pixels:
            raise refuse(wanted, value)
        return width, height

    return check


def _has_ink(value: str) -> bool:
    return any(unicodedata.category(ch) not in {"Cc", "Cf", "Zs", "Zl", "Zp"} for ch in value)
