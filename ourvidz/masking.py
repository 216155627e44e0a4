"""What people and logs must not see: passwords, keys, and the query strings that make a URL a signed one."""

import re
from collections.abc import Mapping
from typing import Any, Final

STARS: Final = "********"

_URL: Final = re.compile(
    r"(?P<head>[a-zA-Z][a-zA-Z0-9+.-]*://)(?P<user>[^\s/@?#\"']*@)?(?P<rest>[^\s?#\"'<>]*)(?P<query>\?[^\s\"'<>]*)?"
)
_BEARER: Final = re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{6,}")
_SECRET_KEY: Final = re.compile(
    r"(?i)(authorization|api_?key|service_?key|secret|password|passwd|access_?token|rest_?token|^cookie$)"
)


def mask(text: str) -> str:
    """The text with passwords and query strings in URLs, and bearer tokens, replaced."""
    return _BEARER.sub(lambda found: f"{found[1]} {STARS}", _URL.sub(_url, text))


def mask_value(value: Any) -> Any:
    """`mask` for every string within lists and mappings; values under secret-looking keys go altogether."""
    if isinstance(value, str):
        return mask(value)
    if isinstance(value, Mapping):
        return {k: STARS if v and _SECRET_KEY.search(str(k)) else mask_value(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [mask_value(item) for item in value]
    return value


def _url(found: re.Match[str]) -> str:
    user = found["user"] or ""
    if ":" in user:
        user = f"{user.split(':', 1)[0]}:{STARS}@"
    query = "?…" if found["query"] and len(found["query"]) > 1 else ""
    return f"{found['head']}{user}{found['rest']}{query}"
