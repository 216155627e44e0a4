"""One contract for every storage, and what each promises beyond it. Supabase and S3 are servers on loopback."""

import os
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.moto_server.threaded_moto_server import ThreadedMotoServer

from tests.supabase_server import KEY as SERVICE_KEY
from tests.supabase_server import Fault, SupabaseServer
from workers.errors import GiveUp, Misconfigured, TryAgain
from workers.ports import Bucket
from workers.storage import LocalBucket, asset_key, open_storage, split_s3

USER = "11111111-2222-4333-8444-555555555555"
JOB = "aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee"
KEY = f"{USER}/{JOB}_0.png"

Read = Callable[[str, str], bytes]


S3_SECRET = "secret-access-key-that-nobody-may-see"
NEVER = 60.0
"""A limit that only a broken test reaches."""


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], None]:
    """Point boto3 at a server, and at nothing else of this host."""

    def point(url: str) -> None:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            monkeypatch.delenv(name)
        for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
            monkeypatch.setenv(name, str(tmp_path / "none"))
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key-id")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", S3_SECRET)

    return point


@pytest.fixture
def s3(s3_server: str, aws: Callable[[str], None]) -> Iterator[Any]:
    """boto3's own client, with an empty bucket named pictures."""
    aws(s3_server)
    client: Any = boto3.client("s3")
    client.create_bucket(Bucket="pictures")
    yield client
    for stored in client.list_objects_v2(Bucket="pictures").get("Contents", []):
        client.delete_object(Bucket="pictures", Key=stored["Key"])
    client.delete_bucket(Bucket="pictures")


@pytest.fixture
def supabase() -> Iterator[SupabaseServer]:
    with SupabaseServer("sdxl_image_fast") as server:
        yield server


@pytest.fixture
def strict() -> Iterator[SupabaseServer]:
    """A Supabase that answers "Duplicate" whenever something is there, whatever x-upsert says."""
    with SupabaseServer("sdxl_image_fast", upserts=False) as server:
        yield server


def at(server: SupabaseServer, *, key: str = SERVICE_KEY) -> Bucket:
    return open_storage("supabase:", supabase_url=server.url, supabase_key=key)


@pytest.fixture(params=["local", "supabase", "s3"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Bucket, Read]:
    """A storage, and a way to look into it that does not go through it."""
    if request.param == "supabase":
        server: SupabaseServer = request.getfixturevalue("supabase")
        return at(server), lambda bucket, key: server.objects[f"{bucket}/{key}"][0]
    if request.param == "s3":
        client = request.getfixturevalue("s3")
        return open_storage("s3://pictures/a/b"), lambda bucket, key: bytes(
            client.get_object(Bucket="pictures", Key=f"a/b/{bucket}/{key}")["Body"].read()
        )
    root = tmp_path / "assets"
    return open_storage(f"file://{root}"), lambda bucket, key: (root / bucket / key).read_bytes()


def put(
    storage: Bucket, data: bytes, *, bucket: str = "sdxl_image_fast", key: str = KEY, seconds: float = NEVER
) -> str:
    return storage.put(bucket, key, data, content_type="image/png", seconds=seconds)


class TestEveryStorage:
    def test_returns_the_path_inside_the_bucket_that_the_callback_tells(self, storage: tuple[Bucket, Read]) -> None:
        bucket, read = storage
        assert put(bucket, b"picture") == KEY
        assert read("sdxl_image_fast", KEY) == b"picture"

    def test_a_second_put_of_the_same_bytes_is_a_success(self, storage: tuple[Bucket, Read]) -> None:
        bucket, read = storage
        assert put(bucket, b"picture") == put(bucket, b"picture")
        assert read("sdxl_image_fast", KEY) == b"picture"

    def test_other_bytes_under_the_same_key_replace_what_was_there(self, storage: tuple[Bucket, Read]) -> None:
        bucket, read = storage
        put(bucket, b"an older and longer picture")
        put(bucket, b"picture")
        assert read("sdxl_image_fast", KEY) == b"picture"

    def test_several_lanes_may_store_at_once(self, storage: tuple[Bucket, Read]) -> None:
        bucket, read = storage
        keys = [f"{USER}/{JOB}_{index}.png" for index in range(6)]
        threads = [
            threading.Thread(target=put, args=(bucket, key.encode()), kwargs={"key": key}, daemon=True) for key in keys
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(NEVER)
        assert [read("sdxl_image_fast", key) for key in keys] == [key.encode() for key in keys]

    def test_an_empty_file_is_a_file(self, storage: tuple[Bucket, Read]) -> None:
        bucket, read = storage
        put(bucket, b"")
        assert read("sdxl_image_fast", KEY) == b""

    @pytest.mark.parametrize(
        "key",
        [
            "../../etc/passwd",
            f"../{USER}/{JOB}_0.png",
            f"{USER}/../{JOB}_0.png",
            f"/{USER}/{JOB}_0.png",
            f"{USER}/{JOB}_0.html",
            f"{USER}/{JOB}_0.png\n",
            f"{USER}/{JOB}_01.png",
            f"{USER.upper()}/{JOB}_0.png".replace("1", "A"),
            f"{USER}\\{JOB}_0.png",
            f"{USER}/{JOB}_٣.png",
            "",
        ],
    )
    def test_no_key_but_a_built_one_is_believed(self, storage: tuple[Bucket, Read], key: str) -> None:
        with pytest.raises(GiveUp, match="key must be"):
            put(storage[0], b"x", key=key)

    @pytest.mark.parametrize("bucket", ["..", ".", "", "a/b", "/tmp", "Ümlaut", "a\0b", "x" * 64])
    def test_no_bucket_but_a_plain_name_is_believed(self, storage: tuple[Bucket, Read], bucket: str) -> None:
        with pytest.raises(GiveUp, match="name of a bucket"):
            put(storage[0], b"x", bucket=bucket)


class TestLocal:
    def test_people_can_open_the_files_whatever_the_umask(self, tmp_path: Path) -> None:
        before = os.umask(0o077)
        try:
            put(LocalBucket(tmp_path), b"picture")
        finally:
            os.umask(before)
        assert stat.S_IMODE((tmp_path / "sdxl_image_fast" / KEY).stat().st_mode) == 0o644

    def test_the_same_bytes_are_not_written_again(self, tmp_path: Path) -> None:
        put(LocalBucket(tmp_path), b"picture")
        before = (tmp_path / "sdxl_image_fast" / KEY).stat()
        put(LocalBucket(tmp_path), b"picture")
        after = (tmp_path / "sdxl_image_fast" / KEY).stat()
        assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)

    def test_what_a_dead_writer_left_is_swept(self, tmp_path: Path) -> None:
        folder = tmp_path / "sdxl_image_fast" / USER
        folder.mkdir(parents=True)
        (folder / f".{JOB}_0.png.4711.tmp").write_bytes(b"half a pic")
        put(LocalBucket(tmp_path), b"picture")
        assert [entry.name for entry in folder.iterdir()] == [f"{JOB}_0.png"]

    def test_a_folder_that_links_out_of_the_root_is_refused(self, tmp_path: Path) -> None:
        outside = tmp_path / "outside"
        outside.mkdir()
        root = tmp_path / "root"
        (root / "sdxl_image_fast").mkdir(parents=True)
        (root / "sdxl_image_fast" / USER).symlink_to(outside)
        with pytest.raises(Misconfigured, match="leads out of"):
            put(LocalBucket(root), b"picture")
        assert list(outside.iterdir()) == []

    @pytest.mark.parametrize("there", [b"keep me", b"picture"])
    def test_a_link_in_the_files_place_is_replaced_and_never_followed(self, tmp_path: Path, there: bytes) -> None:
        outside = tmp_path / "outside.txt"
        outside.write_bytes(there)
        target = tmp_path / "root" / "sdxl_image_fast" / KEY
        target.parent.mkdir(parents=True)
        target.symlink_to(outside)
        put(LocalBucket(tmp_path / "root"), b"picture")
        assert (outside.read_bytes(), target.read_bytes(), target.is_symlink()) == (there, b"picture", False)

    def test_the_root_itself_may_be_a_link(self, tmp_path: Path) -> None:
        (tmp_path / "disk").mkdir()
        (tmp_path / "root").symlink_to(tmp_path / "disk")
        put(LocalBucket(tmp_path / "root"), b"picture")
        assert (tmp_path / "disk" / "sdxl_image_fast" / KEY).read_bytes() == b"picture"

    def test_a_place_that_cannot_be_written_pauses_the_lane_and_burns_no_job(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("not a folder")
        with pytest.raises(Misconfigured, match=r"storage folder .* cannot take sdxl_image_fast/.*Not a directory"):
            put(LocalBucket(tmp_path / "file" / "assets"), b"picture")

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
    def test_a_full_disk_pauses_the_lane_and_leaves_nothing_behind(self, tmp_path: Path) -> None:
        folder = tmp_path / "sdxl_image_fast" / USER
        folder.mkdir(parents=True)
        temporary = folder / f".{JOB}_0.png.{os.getpid()}.tmp"
        temporary.symlink_to("/dev/full")
        with pytest.raises(Misconfigured, match="No space left"):
            put(LocalBucket(tmp_path), b"picture")
        assert list(folder.iterdir()) == []


class TestSupabase:
    def test_is_asked_as_its_interface_wants_it(self, supabase: SupabaseServer) -> None:
        put(at(supabase), b"picture")
        [(method, path, headers)] = supabase.requests
        assert (method, path) == ("POST", f"/storage/v1/object/sdxl_image_fast/{KEY}")
        assert headers["Authorization"] == f"Bearer {SERVICE_KEY}"
        assert headers["x-upsert"] == "true"
        assert supabase.objects == {f"sdxl_image_fast/{KEY}": (b"picture", "image/png")}

    def test_a_lost_acknowledgement_ends_with_one_object(self, supabase: SupabaseServer) -> None:
        supabase.misbehave("lost")
        with pytest.raises(TryAgain, match="closed the connection"):
            put(at(supabase), b"picture")
        assert put(at(supabase), b"picture") == KEY
        assert supabase.objects == {f"sdxl_image_fast/{KEY}": (b"picture", "image/png")}

    def test_a_duplicate_of_the_same_bytes_is_a_success(self, strict: SupabaseServer) -> None:
        strict.misbehave("lost")
        with pytest.raises(TryAgain):
            put(at(strict), b"picture")
        assert put(at(strict), b"picture") == KEY
        assert [method for method, _, _ in strict.requests] == ["POST", "POST", "GET"]

    @pytest.mark.parametrize("there", [b"another picture", b"picturf", b"picture and more", b"pic", b""])
    def test_a_duplicate_of_other_bytes_is_none(self, strict: SupabaseServer, there: bytes) -> None:
        put(at(strict), there)
        with pytest.raises(TryAgain, match="409 Duplicate"):
            put(at(strict), b"picture")

    def test_a_conflict_where_nothing_is_stored_is_tried_again(self, supabase: SupabaseServer) -> None:
        supabase.misbehave("conflict")
        with pytest.raises(TryAgain, match="409 TransactionError"):
            put(at(supabase), b"picture")

    def test_what_cannot_be_looked_at_is_not_believed_to_be_there(self, strict: SupabaseServer) -> None:
        put(at(strict), b"picture")
        strict.misbehave("conflict", "error")
        with pytest.raises(TryAgain):
            put(at(strict), b"picture")

    @pytest.mark.parametrize(
        ("fault", "end", "sentence"),
        [
            ("too_large", GiveUp, "larger than the storage takes.* 413 Payload too large: The object exceeded"),
            ("odd", GiveUp, "Generation failed: Supabase Storage answered 400 InvalidRequest: something else"),
            ("slow_down", TryAgain, "answered 429$"),
            ("gateway_down", TryAgain, "answered 503$"),
            ("error", TryAgain, "answered 500 InternalError"),
            ("denied", Misconfigured, "answered 403 Unauthorized: new row violates"),
            ("bad_jwt", Misconfigured, r"answered 400 InvalidJWT: Invalid Compact JWS: \*\*\*$"),
            ("web_page", Misconfigured, "SUPABASE_URL must be"),
        ],
    )
    def test_each_refusal_is_of_its_class(
        self, supabase: SupabaseServer, fault: Fault, end: type[Exception], sentence: str
    ) -> None:
        supabase.misbehave(fault)
        with pytest.raises(end, match=sentence) as ended:
            put(at(supabase), b"picture")
        assert SERVICE_KEY not in str(ended.value)
        assert supabase.objects == {}

    def test_a_pause_that_is_asked_for_is_kept(self, supabase: SupabaseServer) -> None:
        supabase.misbehave("slow_down")
        with pytest.raises(TryAgain) as ended:
            put(at(supabase), b"picture")
        assert ended.value.retry_after == 7

    def test_a_missing_bucket_pauses_the_lane(self, supabase: SupabaseServer) -> None:
        with pytest.raises(Misconfigured, match="404 Bucket not found"):
            put(at(supabase), b"picture", bucket="video_fast")

    def test_a_wrong_key_pauses_the_lane(self, supabase: SupabaseServer) -> None:
        with pytest.raises(Misconfigured, match="403 Unauthorized"):
            put(at(supabase, key="another"), b"picture")

    def test_the_key_follows_no_redirect(self, supabase: SupabaseServer) -> None:
        with SupabaseServer("sdxl_image_fast") as elsewhere:
            supabase.location = f"{elsewhere.url}/storage/v1/object/sdxl_image_fast/{KEY}"
            supabase.misbehave("redirect")
            with pytest.raises(Misconfigured, match="307"):
                put(at(supabase), b"picture")
            assert elsewhere.requests == []

    def test_nothing_is_taken_from_the_environment(
        self, supabase: SupabaseServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """A proxy would see every picture; a .netrc would replace the key."""
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, "http://127.0.0.1:9")
        (tmp_path / "netrc").write_text("machine 127.0.0.1 login a password b\n")
        monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
        assert put(at(supabase), b"picture") == KEY

    @pytest.mark.parametrize("faults", [("hang",), ("drip",), ("conflict", "drip")])
    def test_nothing_goes_on_beyond_its_seconds(self, supabase: SupabaseServer, faults: tuple[Fault, ...]) -> None:
        """Also the look at what is stored is within them."""
        supabase.misbehave(*faults)
        began = time.monotonic()
        with pytest.raises(TryAgain, match=r"no complete answer within 0\.3 s"):
            put(at(supabase), b"picture", seconds=0.3)
        assert time.monotonic() - began < 5

    def test_a_server_that_is_away_is_tried_again(self) -> None:
        storage = open_storage("supabase:", supabase_url=f"http://127.0.0.1:{_closed_port()}", supabase_key="key")
        with pytest.raises(TryAgain, match="connection refused"):
            put(storage, b"picture")

    def test_tells_which_buckets_are_missing(self, supabase: SupabaseServer) -> None:
        storage: Any = at(supabase)
        assert storage.missing(["sdxl_image_fast", "video_fast"], seconds=NEVER) == ["video_fast"]

    @pytest.mark.parametrize(
        ("url", "key"),
        [
            ("ftp://host", "hunter2"),
            ("https://", "hunter2"),
            ("https://user:hunter2@host", "key"),
            ("https://host?hunter2", "key"),
            ("https://host:99999999", "hunter2"),
            ("https://host", "hunter2\n"),
            ("https://host", "hunter2 ü"),
            ("https://host", ""),
            (None, "hunter2"),
        ],
    )
    def test_a_url_or_a_key_that_cannot_be_used_is_refused_unrepeated(self, url: str | None, key: str) -> None:
        with pytest.raises(ValueError, match="SUPABASE_") as refused:
            open_storage("supabase:", supabase_url=url, supabase_key=key)
        assert "hunter2" not in str(refused.value)


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
        assert put(open_storage("s3://pictures"), b"picture") == KEY
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
        assert put(open_storage("s3://pictures"), film) == KEY
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

    @pytest.mark.parametrize("answer", ["", "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"])
    def test_nothing_goes_on_beyond_its_seconds(self, aws: Callable[[str], None], answer: str) -> None:
        with Answering(answer, then="drip" if answer else "hang") as server:
            aws(server.url)
            began = time.monotonic()
            with pytest.raises(TryAgain, match=r"no complete answer within 0\.5 s"):
                put(open_storage("s3://pictures"), b"picture", seconds=0.5)
        assert time.monotonic() - began < 5

    def test_a_server_that_is_away_is_tried_again(self, aws: Callable[[str], None]) -> None:
        aws(f"http://127.0.0.1:{_closed_port()}")
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


def _closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


class Answering:
    """Answers every request with the same bytes, whatever was asked; `then` it closes, hangs or drips."""

    def __init__(self, answer: str, *, then: str = "close") -> None:
        self.asked = 0
        self._answer = answer.encode()
        self._then = then
        self._over = threading.Event()
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._server.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> "Answering":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._server.close()

    def _serve(self) -> None:
        try:
            while True:
                connected, _ = self._server.accept()
                with connected:
                    self.asked += 1
                    read_request(connected)
                    self.answer(connected)
        except OSError:
            return  # it was closed, or the other side has had enough

    def answer(self, connected: socket.socket) -> None:
        connected.sendall(self._answer)
        while self._then == "drip" and not self._over.wait(0.02):
            connected.sendall(b" ")
        if self._then == "hang":
            self._over.wait()


class Losing(Answering):
    """Passes a request on to the real server, and closes instead of answering."""

    def __init__(self, behind: str) -> None:
        super().__init__("")
        self._behind = behind

    def _serve(self) -> None:
        connected, _ = self._server.accept()
        with connected, socket.create_connection(_address(self._behind)) as real:
            real.sendall(read_request(connected))
            assert b" 200 " in real.recv(65536)


def _address(url: str) -> tuple[str, int]:
    host, port = url.removeprefix("http://").split(":")
    return host, int(port)


def read_request(connected: socket.socket) -> bytes:
    """One whole request with a Content-Length."""
    came = b""
    while b"\r\n\r\n" not in came:
        came += connected.recv(65536)
    head, _, _ = came.partition(b"\r\n\r\n")
    length = next(
        (int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0
    )
    while len(came) < len(head) + 4 + length:
        came += connected.recv(65536)
    return came


class TestOpening:
    @pytest.mark.parametrize("url", ["file:///var/lib/my%20assets", "file://localhost/var/lib/my%20assets"])
    def test_a_file_url_names_a_folder(self, url: str) -> None:
        opened = open_storage(url)
        assert isinstance(opened, LocalBucket)
        assert opened.root == Path("/var/lib/my assets")

    @pytest.mark.parametrize(
        "url",
        ["gs://key:hunter2@bucket", "", "/var/lib", "file:relative", "file://host/path", "file:///a?b"],
    )
    def test_anything_else_is_refused_with_the_allowed_form_and_without_its_secrets(self, url: str) -> None:
        with pytest.raises(ValueError, match="file:///absolute/folder") as refused:
            open_storage(url)
        assert "hunter2" not in str(refused.value)

    @pytest.mark.parametrize(
        ("url", "parts"),
        [
            ("s3://pictures", ("pictures", "")),
            ("s3://pictures/", ("pictures", "")),
            ("s3://my.pictures/a/B_2", ("my.pictures", "a/B_2")),
            ("s3://pictures/.hidden/...", ("pictures", ".hidden/...")),
        ],
    )
    def test_an_s3_url_names_a_bucket_and_a_prefix(self, url: str, parts: tuple[str, str]) -> None:
        assert split_s3(url) == parts

    @pytest.mark.parametrize(
        "url",
        [
            "s3://key:hunter2@bucket",
            "s3://",
            "s3://Bucket",
            "s3:bucket",
            "s3://bucket:9000/hunter2",
            "s3://bucket/../hunter2",
            "s3://bucket/a/./hunter2",
            "s3://bucket//hunter2",
            "s3://bucket/a?hunter2",
            "s3://bucket/a\n",
            "supabase://hunter2",
        ],
    )
    def test_storages_of_the_network_are_written_in_one_way(self, url: str) -> None:
        with pytest.raises(ValueError, match=r"allowed is s3://BUCKET|takes nothing behind it") as refused:
            open_storage(url, supabase_url="https://p.supabase.co", supabase_key="key")
        assert "hunter2" not in str(refused.value)


class TestKeys:
    def test_are_built_from_ids_and_the_index(self) -> None:
        assert asset_key(USER.upper(), JOB.upper(), 5, "mp4") == f"{USER}/{JOB}_5.mp4"

    @pytest.mark.parametrize(
        ("user", "job", "index", "extension"),
        [
            (None, JOB, 0, "png"),
            ("../x", JOB, 0, "png"),
            (f"{{{USER}}}", JOB, 0, "png"),
            (USER + "\n", JOB, 0, "png"),
            (USER, "job", 0, "png"),
            (USER, JOB, -1, "png"),
            (USER, JOB, 0, "exe"),
        ],
    )
    def test_are_built_from_nothing_else(self, user: str | None, job: str, index: int, extension: str) -> None:
        with pytest.raises(GiveUp, match="Invalid parameters"):
            asset_key(user, job, index, extension)
