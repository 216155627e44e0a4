"""What `jobs search` found, for the terminal."""

from datetime import datetime
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from ourvidz.searching import Excerpt
from ourvidz.tones import style_of
from ourvidz.wording import since

WORD: Final = "bold reverse"
"""How a word that was found stands out, with and without colours."""


def matches(found: list[tuple[dict[str, Any], list[Excerpt]]], now: datetime, *, width: int) -> Group:
    """Each job on a line of its own, and under it the texts with the words, over the whole width."""
    parts: list[RenderableType] = []
    for row, excerpts in found:
        parts.append(
            Text("  ").join(
                (
                    Text(row["id"] if width >= 100 else row["id"][:8]),
                    Text(row["state"], style=style_of(row["state"])),
                    Text(row["job_type"] or "?"),
                    Text(f"{since(row['queued_at'], now)} ago", style="dim"),
                )
            )
        )
        parts += [Padding(_marked(excerpt), (0, 0, 0, 2)) for excerpt in excerpts]
    return Group(*parts)


def _marked(excerpt: Excerpt) -> Text:
    label = f"{excerpt.where}: "
    line = Text.assemble((label, "dim"), excerpt.text, overflow="fold")
    for start, end in excerpt.marks:
        line.stylize(WORD, start + len(label), end + len(label))
    return line
