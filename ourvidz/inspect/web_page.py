"""A job's page as one HTML file that needs nothing else: no script, no network, dark or light as its reader likes."""

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any, Final

from ourvidz.inspect.page import Gallery, Grid, Remark, Section, Step, Timeline
from ourvidz.inspect.pictures import File
from ourvidz.inspect.sections import page_of
from ourvidz.tones import Tone
from ourvidz.wording import brief, clock, printable

# Whatever a prompt manages to say, it loads nothing and runs nothing.
_POLICY: Final = "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'"

_STYLE: Final = """
:root { color-scheme: light dark; --paper: #fdfdfc; --ink: #1b1d21; --dim: #6a6f78; --line: #dcdee2;
  --good: #1a7f37; --warn: #b35900; --bad: #c62828; --busy: #0b6bcb; --odd: #8e3bb0; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #16181d; --ink: #e6e4e0; --dim: #9a9fa8; --line: #33373f;
    --good: #57c27a; --warn: #e0954a; --bad: #f0716b; --busy: #64aef5; --odd: #c98be3; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 76rem; margin: 0 auto; padding: 1.5rem 1.25rem 3rem; }
h1 { font-size: 1.3rem; line-height: 1.4; margin: 0 0 .5rem; overflow-wrap: anywhere; }
h2 { font-size: 1rem; margin: 2rem 0 .5rem; padding-bottom: .25rem; border-bottom: 1px solid var(--line); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; }
td, th { padding: .12rem 1.1rem .12rem 0; text-align: left; vertical-align: top; font-weight: inherit;
  font-variant-numeric: tabular-nums; }
td { white-space: nowrap; }
td:last-child:not(.right) { white-space: pre-wrap; overflow-wrap: anywhere; min-width: 11rem; }
td:last-child, th:last-child { padding-right: 0; }
th, .dim, .moment, figcaption, caption { color: var(--dim); }
caption { text-align: left; overflow-wrap: anywhere; }
.right { text-align: right; }
.good { color: var(--good); } .warn { color: var(--warn); } .bad { color: var(--bad); }
.busy { color: var(--busy); } .odd { color: var(--odd); }
.timeline { width: 100%; }
.timeline td:last-child { white-space: nowrap; }
.timeline .bar { width: 40%; min-width: 8rem; vertical-align: middle; }
.timeline .note, .timeline .remark { white-space: pre-wrap; overflow-wrap: anywhere; }
.bar div { display: flex; height: .7rem; }
.bar i { display: block; background: currentColor; }
.bar .wait { background: var(--dim); opacity: .4; }
.files { display: flex; flex-wrap: wrap; gap: 1rem; margin-top: .75rem; }
figure { margin: 0; max-width: 22rem; }
figure img, figure video { display: block; max-width: 100%; height: auto; border: 1px solid var(--line); }
figure .none { display: block; padding: 2.5rem 1rem; border: 1px dashed var(--line); color: var(--dim); }
@page { margin: 1.5cm; }
@media print {
  :root { --paper: #fff; --ink: #000; --dim: #555; --line: #ccc;
    --good: #1a7f37; --warn: #b35900; --bad: #c62828; --busy: #0b6bcb; --odd: #8e3bb0; }
  body { font-size: 11px; } main { padding: 0; max-width: none; } .wide { overflow: visible; }
  .timeline .bar { width: 25%; min-width: 5rem; } h2 { break-after: avoid; } tr, figure { break-inside: avoid; }
  .bar i { print-color-adjust: exact; -webkit-print-color-adjust: exact; } }
"""


def web_page(document: dict[str, Any], files: Mapping[str, File], *, events: bool = False) -> str:
    """The file's text. `files` are those of `pictures.files`; `events`: with the raw history."""
    page = page_of(document, events=events)
    moment = "" if page.moment is None else f'<p class="moment">{_text(page.moment)}</p>\n'
    sections = "\n".join(_section(section, files) for section in page.sections)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_text(page.title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n"
        f"<h1{_class(page.sentence.tone)}>{_text(page.sentence.text)}</h1>\n{moment}{sections}\n"
        "</main>\n</body>\n</html>\n"
    )


def _text(text: str) -> str:
    return escape(printable(text))


def _class(*names: str) -> str:
    given = " ".join(name for name in names if name)
    return f' class="{given}"' if given else ""


def _section(section: Section, files: Mapping[str, File]) -> str:
    parts = "\n".join(_part(part, files) for part in section.parts)
    return f"<section>\n<h2>{_text(section.title)}</h2>\n{parts}\n</section>"


def _part(part: Grid | Timeline | Gallery, files: Mapping[str, File]) -> str:
    match part:
        case Grid():
            return _table("", _grid(part))
        case Timeline():
            return _table("timeline", _timeline(part))
        case Gallery():
            figures = "\n".join(
                _figure(shown.content_type, shown.label, files[shown.place])
                for shown in part.files
                if shown.place in files
            )
            return f'<div class="files">\n{figures}\n</div>'


def _table(name: str, rows: Iterator[str]) -> str:
    body = "\n".join(rows)
    return f'<div class="wide"><table{_class(name)}>\n{body}\n</table></div>'


def _row(cells: Iterator[str]) -> str:
    return f"<tr>{''.join(cells)}</tr>"


def _cell(text: str, *names: str, tag: str = "td", span: int = 1) -> str:
    wide = f' colspan="{span}"' if span > 1 else ""
    return f"<{tag}{_class(*names)}{wide}>{_text(text)}</{tag}>"


def _grid(grid: Grid) -> Iterator[str]:
    def side(column: int) -> str:
        return "right" if column in grid.right else ""

    if grid.caption is not None:
        yield f"<caption>{_text(grid.caption)}</caption>"
    if grid.head:
        yield _row(_cell(name, side(column), tag="th") for column, name in enumerate(grid.head))
    for row in grid.rows:
        yield _row(_cell(cell.text, cell.tone, side(column)) for column, cell in enumerate(row))


_COLUMNS: Final = ("stage", "try", "UTC", "after", "wait", "run", "", "outcome", "where")
_NUMBERS: Final = frozenset({"try", "after", "wait", "run"})


def _timeline(story: Timeline) -> Iterator[str]:
    yield _row(_cell(name, "right" if name in _NUMBERS else "", tag="th") for name in _COLUMNS)
    day = story.began.date()
    for entry in story.entries:
        if entry.at.date() != day:
            day = entry.at.date()
            yield _row(iter([_cell(str(day), "dim", span=len(_COLUMNS))]))
        if isinstance(entry, Remark):
            said = _cell(entry.said, "remark", entry.tone, span=len(_COLUMNS) - 4)
            yield _row(iter([_cell("", span=2), _cell(clock(entry.at)), _cell(_after(entry), "right"), said]))
            continue
        yield _row(_step(entry, story.longest))
        for note in entry.notes:
            yield _row(iter([_cell("", span=2), _cell(note, "note", "dim", span=len(_COLUMNS) - 2)]))


def _step(step: Step, longest: float) -> Iterator[str]:
    yield _cell(step.stage)
    yield _cell("" if step.attempt is None else str(step.attempt), "right")
    yield _cell(clock(step.at))
    yield _cell(_after(step), "right")
    for seconds in (step.wait, step.run):
        yield _cell("" if seconds is None else brief(seconds), "right")
    yield f'<td class="bar"><div>{_bar("wait", step.wait, longest)}{_bar(step.tone, step.run, longest)}</div></td>'
    yield _cell(step.outcome, step.tone)
    yield _cell(step.where, "dim")


def _bar(name: Tone | str, seconds: float | None, longest: float) -> str:
    """Seconds as a share of the whole width; what happened at all can be seen."""
    if seconds is None or (name == "wait" and not seconds):
        return ""
    least = "" if name == "wait" else ";min-width:2px"
    return f'<i{_class(name)} style="width:{min(1.0, seconds / longest):.2%}{least}"></i>'


def _after(entry: Step | Remark) -> str:
    return f"+{brief(entry.after)}"


def _figure(content_type: str, label: str, file: File) -> str:
    said = f' <span class="warn">{_text(file.said)}</span>' if file.said else ""
    if file.uri is None:
        return f'<figure><span class="none">{_text(file.said)}</span><figcaption>{_text(label)}</figcaption></figure>'
    shown = (
        f'<video controls loop src="{escape(file.uri)}"></video>'
        if content_type.startswith("video/")
        else f'<img alt="{_text(label)}" src="{escape(file.uri)}">'
    )
    return f"<figure>{shown}<figcaption>{_text(label)}{said}</figcaption></figure>"
