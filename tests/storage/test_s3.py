"""What an S3 promises beyond the contract. It is a server on loopback."""

import time
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.storage.asking import KEY, NEVER, S3_SECRET, Answering, Losing, closed_port, get, public, put, remove, signed
from workers.errors import GiveUp, Misconfigured, TryAgain
from workers.storage import open_storage


class TestS3:
    def test_keeps_the_content_type_and_the_layout(self, s3: Any) -> None:
        put(open_storage("s3://pictures"), b"picture")
        stored = s3.get_object(Bucket="pictures", Key=f"sdxl_image_fast/{KEY}")
        assert (stored["ContentType"], stored["Body"].read()) == ("image/png", b"picture")

    def test_a_lost_acknowledgement_ends_with_one_object(
        self, s3: Any, s3_server: str, aws: Callable[[str], None]
    ) -> None:
        with Losing(s3_server) as losing:
            aws(losing.url)
            with pytest.raises(TryAgain, match="closed the connection"):
                put(open_storage("s3://pictures"), b"picture")
        aws(s3_server)
        put(open_storage("s3://pictures"), b"picture")
        stored = s3.list_objects_v2(Bucket="pictures")["Contents"]
        assert [entry["Key"] for entry in stored] == [f"sdxl_image_fast/{KEY}"]
        assert s3.get_object(Bucket="pictures", Key=stored[0]["Key"])["Body"].read() == b"picture"

    def test_a_missing_bucket_pauses_the_lane(self, s3: Any) -> None:
        storage: Any = open_storage("s3://elsewhere")
        with pytest.raises(Misconfigured, match="s3://elsewhere answered 404 NoSuchBucket"):
            put(storage, b"picture")
        with pytest.raises(Misconfigured, match="s3://elsewhere answered 404"):
            storage.missing([], seconds=NEVER)

    @pytest.mark.parametrize("status", [301, 400, 403])
    def test_a_refused_look_is_asked_once(self, aws: Callable[[str], None], status: int) -> None:
        with Answering(f"HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n") as server:
            aws(server.url)
            storage: Any = open_storage("s3://pictures")
            with pytest.raises((Misconfigured, GiveUp), match=f"answered {status}$"):
                storage.missing([], seconds=NEVER)
            assert server.asked == 1

    def test_a_whole_film_goes_through(self, s3: Any) -> None:
        film = bytes(range(256)) * 40_000
        put(open_storage("s3://pictures"), film)
        assert s3.get_object(Bucket="pictures", Key=f"sdxl_image_fast/{KEY}")["Body"].read() == film

    def test_looking_whether_it_is_there_writes_nothing(self, s3: Any) -> None:
        storage: Any = open_storage("s3://pictures")
        assert storage.missing(["sdxl_image_fast"], seconds=NEVER) == []
        assert "Contents" not in s3.list_objects_v2(Bucket="pictures")

    @pytest.mark.parametrize(
        ("status", "code", "end"),
        [
            (503, "SlowDown", TryAgain),
            (500, "InternalError", TryAgain),
            (400, "RequestTimeout", TryAgain),
            (409, "OperationAborted", TryAgain),
            (429, "TooManyRequests", TryAgain),
            (403, "AccessDenied", Misconfigured),
            (403, "SignatureDoesNotMatch", Misconfigured),
            (400, "ExpiredToken", Misconfigured),
            (404, "NoSuchBucket", Misconfigured),
            (301, "PermanentRedirect", Misconfigured),
            (307, "TemporaryRedirect", Misconfigured),
            (400, "AuthorizationHeaderMalformed", Misconfigured),
            (507, "XMinioStorageFull", Misconfigured),
            (400, "EntityTooLarge", GiveUp),
            (413, "", GiveUp),
            (400, "InvalidArgument", GiveUp),
        ],
    )
    def test_each_refusal_is_of_its_class(
        self, aws: Callable[[str], None], status: int, code: str, end: type[Exception]
    ) -> None:
        said = f"<Error><Code>{code}</Code><Message>{S3_SECRET}</Message></Error>" if code else "<html></html>"
        with Answering(f"HTTP/1.1 {status} X\r\nRetry-After: 7\r\nContent-Length: {len(said)}\r\n\r\n{said}") as server:
            aws(server.url)
            with pytest.raises(end, match=f"answered {status}( {code})?$" if code else f"answered {status}") as ended:
                put(open_storage("s3://pictures"), b"picture")
            assert server.asked == 1, "the lanes try again, nobody else"
        assert S3_SECRET not in str(ended.value)
        if isinstance(ended.value, TryAgain):
            assert ended.value.retry_after == 7

    @pytest.mark.parametrize(("status", "end"), [(503, TryAgain), (403, Misconfigured), (404, Misconfigured)])
    def test_a_refusal_to_read_is_not_an_empty_place(
        self, aws: Callable[[str], None], status: int, end: type[Exception]
    ) -> None:
        with Answering(f"HTTP/1.1 {status} X\r\nContent-Length: 2\r\n\r\nno") as server:
            aws(server.url)
            with pytest.raises(end, match=f"answered {status}"):
                get(open_storage("s3://pictures"))

    def test_no_version_is_left_of_what_is_removed(self, s3: Any) -> None:
        """A bucket with versioning only hides what is deleted."""
        s3.put_bucket_versioning(Bucket="pictures", VersioningConfiguration={"Status": "Enabled"})
        storage = open_storage("s3://pictures")
        put(storage, b"picture")
        put(storage, b"a later picture")
        put(storage, b"another", key=f"{KEY[:-5]}1.png")
        remove(storage)
        remove(storage)
        kept = s3.list_object_versions(Bucket="pictures")
        assert [version["Key"] for version in kept["Versions"]] == [f"sdxl_image_fast/{KEY[:-5]}1.png"]
        assert "DeleteMarkers" not in kept
        s3.delete_object(Bucket="pictures", Key=kept["Versions"][0]["Key"], VersionId=kept["Versions"][0]["VersionId"])

    @pytest.mark.parametrize(("status", "end"), [(503, TryAgain), (403, Misconfigured), (404, Misconfigured)])
    def test_a_refusal_to_remove_is_not_a_removal(
        self, aws: Callable[[str], None], status: int, end: type[Exception]
    ) -> None:
        with Answering(f"HTTP/1.1 {status} X\r\nContent-Length: 2\r\n\r\nno") as server:
            aws(server.url)
            with pytest.raises(end, match=f"answered {status}"):
                remove(open_storage("s3://pictures"))

    @pytest.mark.parametrize("answer", ["", "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"])
    def test_nothing_goes_on_beyond_its_seconds(self, aws: Callable[[str], None], answer: str) -> None:
        with Answering(answer, then="drip" if answer else "hang") as server:
            aws(server.url)
            began = time.monotonic()
            with pytest.raises(TryAgain, match=r"no complete answer within 0\.5 s"):
                put(open_storage("s3://pictures"), b"picture", seconds=0.5)
        assert time.monotonic() - began < 5

    def test_a_server_that_is_away_is_tried_again(self, aws: Callable[[str], None]) -> None:
        aws(f"http://127.0.0.1:{closed_port()}")
        with pytest.raises(TryAgain, match="connection refused"):
            put(open_storage("s3://pictures"), b"picture")

    def test_without_credentials_the_lane_pauses(
        self, aws: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        aws("http://127.0.0.1:9")
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        with pytest.raises(Misconfigured, match="NoCredentialsError"):
            put(open_storage("s3://pictures"), b"picture")

    def test_a_set_up_that_boto3_refuses_is_one_sentence(
        self, aws: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        aws("not a url")
        with pytest.raises(ValueError, match=r"cannot be set up.*AWS_"):
            open_storage("s3://pictures")
        monkeypatch.setenv("AWS_PROFILE", "nobody")
        with pytest.raises(ValueError, match="ProfileNotFound"):
            open_storage("s3://pictures")


class TestUrls:
    def test_a_signed_one_holds_as_long_as_was_asked_and_is_made_without_asking(
        self, aws: Callable[[str], None]
    ) -> None:
        aws(f"http://127.0.0.1:{closed_port()}")
        asked = parse_qs(urlsplit(signed(open_storage("s3://pictures"), holds=604_800)).query)
        assert (asked["X-Amz-Expires"], asked["X-Amz-Algorithm"]) == (["604800"], ["AWS4-HMAC-SHA256"])
        assert S3_SECRET not in str(asked)

    def test_a_public_one_is_of_the_form_that_the_endpoint_takes(
        self, aws: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Amazon's own names the bucket in the host, others in the path."""
        aws("http://127.0.0.1:9")
        assert public(open_storage("s3://pictures/a")) == f"http://127.0.0.1:9/pictures/a/sdxl_image_fast/{KEY}"
        monkeypatch.delenv("AWS_ENDPOINT_URL")
        amazon = f"https://pictures.s3.amazonaws.com/sdxl_image_fast/{KEY}"
        assert public(open_storage("s3://pictures")) == amazon
        assert signed(open_storage("s3://pictures")).startswith(f"{amazon}?X-Amz-Algorithm=")

    def test_without_credentials_the_lane_pauses(
        self, aws: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        aws("http://127.0.0.1:9")
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        with pytest.raises(Misconfigured, match="NoCredentialsError"):
            signed(open_storage("s3://pictures"))
