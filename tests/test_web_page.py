"""The web page of one job: nothing foreign gets out of its text, and the pictures are in it, or why they are not."""

import base64
import io
from html.parser import HTMLParser
from typing import Any, Final

import pytest
from PIL import Image

from ourvidz.inspect import pictures
from ourvidz.inspect.document import document
from ourvidz.inspect.pictures import File, files
from ourvidz.inspect.web_page import web_page
from statemachine import events as e
from tests.fakes import MemoryBucket
from tests.fates import FATES, JOB, USER, Life
from workers.errors import TryAgain
from workers.spool import sha256

HOSTILE: Final = "</td><script>alert(1)</script><img src=x onerror=alert(2)> \" ' & \x1b[2J \u202e"
PLAIN: Final = {
    "html", "head", "meta", "title", "style", "body", "main", "h1", "h2", "p", "section", "div", "table", "caption",
    "tr", "th", "td", "i", "figure", "img", "video", "figcaption", "span",
}  # fmt: skip
"""Elements that do nothing."""


class Reader(HTMLParser):
    """What a browser would make of the page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Every element with its attributes."""
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        """All text, the style sheet's too."""
        self.text += data


def png(colour: str) -> bytes:
    """A small picture."""
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(buffer, "PNG")
    return buffer.getvalue()


MADE: Final = {0: png("red"), 1: png("green"), 2: png("blue")}


def painted(**changes: Any) -> tuple[dict[str, Any], MemoryBucket]:
    """The document of a completed job with three real pictures, and the storage that has them."""
    life, bucket = Life().wait(1).claim(), MemoryBucket()
    for index, data in MADE.items():
        told: dict[str, Any] = {"bytes": len(data), "content_type": "image/png"} | changes
        life.write(
            e.AssetGenerated(
                index=index, seed=index, name=f"{index}.png", digest=sha256(data), width=8, height=8, **told
            )
        )
        bucket.objects["sdxl_image_fast", f"{USER}/{JOB}_{index}.png"] = data
    life.write(e.MediaGenerated(device_seconds=9.0, engine="diffusers")).start().upload().start().tell().finish()
    return document(life.seen()), bucket


@pytest.mark.parametrize("fate", FATES)
def test_the_page_is_whole_and_asks_for_nothing(fate: str) -> None:
    told = document(FATES[fate]())
    page = Reader(web_page(told, {}, events=True))
    assert {tag for tag, _ in page.tags} <= PLAIN
    assert all(not attributes.get("src") for _, attributes in page.tags)
    assert told["sentence"] in page.text
    assert all(act in page.text for act in told["actions"])
    assert all(event["kind"] in page.text for event in told["events"])


def test_hostile_text_stays_text() -> None:
    life = Life()
    life.content |= {
        "prompt": HOSTILE,
        "references": [{"role": HOSTILE, "url": "https://x.example/a?token=eyJhbGciOi"}],
    }
    life.wait(1).claim(f"w-{HOSTILE}", HOSTILE).write(e.Degraded(what=HOSTILE, why=HOSTILE)).trouble(HOSTILE, HOSTILE)
    text = web_page(document(life.seen()), {}, events=True)
    page = Reader(text)
    assert {tag for tag, _ in page.tags} <= PLAIN
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert "<script>alert(1)</script>" in page.text
    assert "eyJ" not in text
    assert not {"\x1b", "\u202e"} & set(text)
    (policy,) = (attributes["content"] for _, attributes in page.tags if "http-equiv" in attributes)
    assert policy == "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'"


def test_the_pictures_are_in_the_page_as_they_were_made() -> None:
    told, bucket = painted()
    page = Reader(web_page(told, files(told, bucket)))
    shown = [attributes["src"] for tag, attributes in page.tags if tag == "img"]
    assert [base64.b64decode((src or "").removeprefix("data:image/png;base64,")) for src in shown] == list(
        MADE.values()
    )


def test_a_video_can_be_played() -> None:
    told, bucket = painted(content_type="video/mp4")
    page = Reader(web_page(told, files(told, bucket)))
    assert [tag for tag, _ in page.tags if tag in ("img", "video")] == ["video"] * 3


def test_what_is_missing_or_changed_is_said() -> None:
    told, bucket = painted()
    places = [f"sdxl_image_fast/{USER}/{JOB}_{index}.png" for index in range(3)]
    del bucket.objects["sdxl_image_fast", f"{USER}/{JOB}_0.png"]
    bucket.objects["sdxl_image_fast", f"{USER}/{JOB}_1.png"] = MADE[1][:-1] + b"!"
    bucket.objects["sdxl_image_fast", f"{USER}/{JOB}_2.png"] = MADE[2] + b"more"
    found = files(told, bucket)
    assert found[places[0]] == File(said="it is not in the storage any more")
    assert found[places[1]].said == "this is not the file that was made"
    assert found[places[1]].uri is not None
    assert found[places[2]] == File(said="what lies there is not the file that was made: it is larger")
    page = web_page(told, found)
    assert all(file.said in page for file in found.values())


def test_a_file_that_is_too_large_is_not_even_read() -> None:
    told, bucket = painted(bytes=pictures.EACH_BYTES + 1)
    bucket.failing = [AssertionError("it was read")]
    assert {file.said for file in files(told, bucket).values()} == {"24.0 MB are too many for this page"}


def test_files_that_together_are_too_large_are_left_out() -> None:
    told, bucket = painted()
    for asset in told["assets"]:
        asset["bytes"] = pictures.EACH_BYTES
    told["assets"] = told["assets"] * 2
    told["assets"] = [dict(asset) for asset in told["assets"]]
    for number, asset in enumerate(told["assets"]):
        asset["key"] = f"{USER}/{JOB}_{number}.png"
        bucket.objects["sdxl_image_fast", asset["key"]] = MADE[0]
    shown = [file.uri is not None for file in files(told, bucket).values()]
    assert shown == [True, True, False, False, False, False]


def test_a_storage_that_does_not_answer_is_asked_once_and_the_page_is_made() -> None:
    told, bucket = painted()
    bucket.failing = [TryAgain("s3://b answered 503: https://k:secret@x.example/?sig=abc", error_type="StorageError")]
    found = files(told, bucket)
    said = {file.said for file in found.values()}
    assert said == {"it could not be read: s3://b answered 503: https://k:********@x.example/?…"}
    assert "could not be read" in web_page(told, found)


def test_a_type_that_no_worker_makes_is_not_handed_to_a_browser() -> None:
    told, bucket = painted(content_type="text/html")
    assert {file.said for file in files(told, bucket).values()} == {"text/html is not shown"}
