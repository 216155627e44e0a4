"""From a URL to a picture in the spool, over real HTTP on loopback: and who is shown the service key on the way."""

import io
import threading
from collections.abc import Sequence
from socket import socket

import pytest
from PIL import Image

from statemachine.states import State
from tests.references.internet import Reply, Site, ok, redirect
from tests.stages.house import JOB, House, from_start_to_end, with_reference
from tests.supabase_server import KEY as SUPABASE_KEY
from tests.supabase_server import SupabaseServer
from workers.errors import GiveUp, Misconfigured, StageEnds, TryAgain
from workers.ports import ReferencePicture
from workers.references.decoding import PixelLimits
from workers.references.pictures import PrivateBuckets, WebReferences
from workers.request import Reference
from workers.spool import sha256

KEY = "service-role-key"
OPEN = "/storage/v1/object"


def picture(colour: str = "red", size: tuple[int, int] = (9, 5), form: str = "PNG", turned: int = 1) -> bytes:
    """A file as a stranger would send it."""
    file, exif = io.BytesIO(), Image.Exif()
    exif[0x0112], exif[0x010E] = turned, "taken at home"
    Image.new("RGB", size, colour).save(file, form, exif=exif)
    return file.getvalue()


def came(answers: Sequence[object]) -> list[ReferencePicture]:
    pictures = [answer for answer in answers if isinstance(answer, ReferencePicture)]
    assert len(pictures) == len(answers), answers
    return pictures


class TestAPicture:
    def test_becomes_an_upright_png_without_anything_else(self) -> None:
        data = picture(form="JPEG", turned=6)
        with Site(ok(data, kind="image/jpeg")) as site:
            (answer,) = came(WebReferences(allowed=site.allowed).fetch([f"{site.url}/a.jpg"], seconds=20))
        shown = Image.open(io.BytesIO(answer.png))
        assert (shown.format, shown.mode, shown.size) == ("PNG", "RGB", (5, 9))
        assert b"taken at home" in data
        assert b"taken at home" not in answer.png
        assert (answer.width, answer.height, answer.host) == (5, 9, "127.0.0.1")
        assert (answer.source_bytes, answer.source_digest) == (len(data), sha256(data))

    def test_gives_the_same_bytes_each_time(self) -> None:
        with Site(ok(picture(form="WEBP"))) as site:
            web = WebReferences(allowed=site.allowed)
            assert web.fetch([site.url], seconds=20) == web.fetch([site.url], seconds=20)

    def test_two_are_fetched_at_once_and_stand_in_their_order(self) -> None:
        """Neither server answers before the other one was asked."""
        both = threading.Barrier(2)

        def after_the_other(data: bytes) -> Reply:
            def reply(talking: socket, _: threading.Event) -> None:
                both.wait(20)
                talking.sendall(ok(data))

            return reply

        red, blue = picture("red"), picture("blue")
        with Site({"/a": after_the_other(red), "/b": after_the_other(blue)}) as site:
            answers = came(WebReferences(allowed=site.allowed).fetch([f"{site.url}/a", f"{site.url}/b"], seconds=60))
        assert [answer.source_digest for answer in answers] == [sha256(red), sha256(blue)]

    def test_what_goes_wrong_with_one_stands_in_its_place(self) -> None:
        down = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"
        replies = {"/a": ok(picture()), "/b": down, "/c": ok(b"no picture"), "/d": ok(picture(size=(99, 99)))}
        with Site(replies) as site:
            web = WebReferences(allowed=site.allowed, pixels=PixelLimits(pixels=100))
            answers = web.fetch([f"{site.url}{path}" for path in (*replies, "/e")], seconds=20)
        assert [type(answer) for answer in answers] == [ReferencePicture, TryAgain, GiveUp, GiveUp, GiveUp]
        assert WebReferences().fetch([], seconds=20) == []


def shown_key(site: Site) -> list[bool]:
    """Of each request, whether it carried the key."""
    return [f"Authorization: Bearer {KEY}" in request for request in site.requests]


class TestTheServiceKey:
    def test_opens_the_two_buckets_of_its_own_project(self) -> None:
        with Site(ok(picture())) as site:
            web = WebReferences(allowed=site.allowed, private=PrivateBuckets(site.url, KEY))
            urls = [f"{site.url}{OPEN}/reference_images/u/a.png", f"{site.url}{OPEN}/workspace_assets/u/b.png"]
            came(web.fetch(urls, seconds=20))
            assert shown_key(site) == [True, True]

    def test_goes_to_nobody_else(self) -> None:
        with Site(ok(picture())) as project, Site(ok(picture())) as elsewhere:
            web = WebReferences(allowed=project.allowed | elsewhere.allowed, private=PrivateBuckets(project.url, KEY))
            path = f"{OPEN}/reference_images/u/a.png"
            urls = [
                f"{elsewhere.url}{path}",
                f"{project.url}/elsewhere/a.png",
                f"http://localhost:{project.port}{path}",
            ]
            web.fetch(urls, seconds=20)
            assert shown_key(elsewhere) + shown_key(project) == [False, False]

    def test_does_not_go_along_a_redirect(self) -> None:
        path = f"{OPEN}/reference_images/u/a.png"
        with Site(ok(picture())) as elsewhere, Site({path: redirect(f"{elsewhere.url}{path}")}) as project:
            web = WebReferences(allowed=project.allowed | elsewhere.allowed, private=PrivateBuckets(project.url, KEY))
            came(web.fetch([f"{project.url}{path}"], seconds=20))
            assert shown_key(project) == [True]
            assert shown_key(elsewhere) == [False]

    @pytest.mark.parametrize(
        ("path", "opens"),
        [
            ("/storage/v1/object/reference_images/u/a.png", True),
            ("/storage/v1/object/authenticated/workspace_assets/u/a%20b.png", True),
            ("/storage/v1/render/image/authenticated/reference_images/u/a.png?width=100", True),
            ("/storage/v1/object/public/reference_images/u/a.png", False),  # needs none
            ("/storage/v1/object/sign/reference_images/u/a.png?token=x", False),
            ("/storage/v1/object/list/reference_images/u", False),
            ("/storage/v1/object/sdxl_image_high/u/a.png", False),
            ("/storage/v1/object/reference_images", False),
            ("/storage/v1/object/reference_images/../sdxl_image_high/u/a.png", False),
            ("/storage/v1/object/reference_images/%2e%2e/sdxl_image_high/u/a.png", False),
            ("/storage/v1/object/reference_images/%252e%252E/sdxl_image_high/u/a.png", False),
            ("/storage/v1/object/reference_images/..%2fsdxl_image_high/u/a.png", False),
            ("/storage/v1/object/reference_images/%5c..%5cx/a.png", False),
            ("/storage/v1/object/reference_images/a.png/../../../../../rest/v1/users", False),
            ("/rest/v1/users?select=*&x=/storage/v1/object/reference_images/a.png", False),
            ("/functions/v1/delete-everything", False),
            ("/auth/v1/admin/users#/storage/v1/object/reference_images/a.png", False),
            ("", False),
        ],
    )
    @pytest.mark.parametrize("folder", ["", "/project"])
    def test_opens_no_other_door(self, path: str, opens: bool, folder: str) -> None:
        private = PrivateBuckets(f"https://p.supabase.co{folder}/", KEY)
        found = private.bearer_for(f"https://P.supabase.co:443{folder}{path}")
        assert found == ({"https://p.supabase.co:443": KEY} if opens else {})
        assert private.bearer_for(f"http://p.supabase.co{folder}{path}") == {}
        assert private.bearer_for(f"https://p.supabase.co.evil.example{folder}{path}") == {}

    def test_reads_what_a_project_shows_to_nobody_else(self) -> None:
        data = picture()
        with SupabaseServer("reference_images") as server:
            server.objects["reference_images/u/a.png"] = (data, "image/png")
            url = f"{server.url}{OPEN}/authenticated/reference_images/u/a.png"
            allowed = frozenset({server.url.removeprefix("http://")})
            web = WebReferences(allowed=allowed, private=PrivateBuckets(server.url, SUPABASE_KEY))
            assert came(web.fetch([url], seconds=20))[0].source_digest == sha256(data)
            assert server.requests[0][2]["apikey"] == SUPABASE_KEY
            (missing,) = web.fetch([url.replace("a.png", "b.png")], seconds=20)
            assert isinstance(missing, GiveUp)
            (nobody,) = WebReferences(allowed=allowed).fetch([url], seconds=20)
            assert isinstance(nobody, GiveUp)

    def test_that_is_refused_is_the_set_ups_trouble_and_no_jobs(self) -> None:
        """Storage says it with 400 and a body."""
        with SupabaseServer("reference_images") as server:
            url = f"{server.url}{OPEN}/authenticated/reference_images/u/a.png"
            allowed = frozenset({server.url.removeprefix("http://")})
            web = WebReferences(allowed=allowed, private=PrivateBuckets(server.url, "an-old-key"))
            (refused,) = web.fetch([url], seconds=20)
        assert isinstance(refused, Misconfigured)
        assert refused.message == "127.0.0.1 refuses the service key"

    @pytest.mark.parametrize(
        ("status", "body", "end"),
        [
            (401, b"{}", Misconfigured),
            (403, b"<html>", Misconfigured),
            (403, b'{"statusCode":"403","error":"FeatureNotEnabled"}', GiveUp),
            (400, b'{"statusCode":"403","error":"FeatureNotEnabled"}', GiveUp),
            (400, b'{"statusCode":"400","error":"InvalidJWT"}', Misconfigured),
            (400, b'{"statusCode":"404","error":"not_found"}', GiveUp),
            (400, b'["403"]', GiveUp),
            (400, b"[" * 4000, GiveUp),
            (400, b'{"statusCode":"403"}' + b" " * 5000, GiveUp),
            (404, b'{"statusCode":"403"}', GiveUp),
            (503, b'{"statusCode":"403"}', TryAgain),
        ],
    )
    def test_each_answer_to_it_has_its_meaning(self, status: int, body: bytes, end: type[StageEnds]) -> None:
        head = f"HTTP/1.1 {status} No\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        with Site(head + body) as site:
            url = f"{site.url}{OPEN}/reference_images/u/a.png"
            private = PrivateBuckets(site.url, KEY)
            (answer,) = WebReferences(allowed=site.allowed, private=private).fetch([url], seconds=20)
            (without,) = WebReferences(allowed=site.allowed).fetch([url], seconds=20)
        assert type(answer) is end
        assert type(without) is (TryAgain if status == 503 else GiveUp)

    def test_a_url_that_is_none_is_given_none(self) -> None:
        assert PrivateBuckets("https://p.supabase.co", KEY).bearer_for("file:///etc/passwd") == {}


HOSTILE = {
    "http://127.0.0.1:9/reference.png?secret=1": "127.0.0.1 is not at a public address",
    "http://169.254.169.254/latest/meta-data/secret": "169.254.169.254 is not at a public address",
    "http://[::ffff:10.0.0.1]/secret": "::ffff:a00:1 is not at a public address",
    "file:///etc/secret": "the reference's URL must begin with http:// or https://",
    "https://user:secret@example.com/": "the reference's URL must not hold a user or a password",
}


class TestAWholeJob:
    def test_has_its_pictures_in_the_spool(self) -> None:
        with Site({"/a": ok(picture("red")), "/b": ok(picture("blue", form="GIF"), kind="image/gif")}) as site:
            made = House()
            made.references = WebReferences(allowed=site.allowed)
            both = [Reference("start", f"{site.url}/a"), Reference("end", f"{site.url}/b")]
            made.admit(from_start_to_end(references=both))
            job = made.until_done()
        assert job.state is State.COMPLETED
        assert [known["host"] for known in job.references] == ["127.0.0.1", "127.0.0.1"]
        for known, colour in zip(job.references, [(255, 0, 0), (0, 0, 255)], strict=True):
            kept = Image.open(io.BytesIO(made.spool.read(JOB, known["name"], known["digest"])))
            assert (kept.size, kept.getpixel((0, 0))) == ((9, 5), colour)

    @pytest.mark.parametrize("url", HOSTILE)
    def test_that_asks_for_what_is_nobodys_business_fails_with_the_reason(self, url: str) -> None:
        """And neither its history nor its callback repeats the URL."""
        made = House()
        made.references = WebReferences()
        made.admit(with_reference(references=[Reference("single", url)]))
        job = made.until_done()
        assert job.error is not None
        assert job.error.message == f"Generation failed: the reference cannot be used: {HOSTILE[url]}"
        assert job.error.error_type == "ReferenceRefused"
        assert not any("secret" in stored.data for stored in made.recorder.history[JOB])
        assert not any(b"secret" in post.body for post in made.receiver.posts)
