"""One contract for every storage, and what the local folder promises beyond it."""

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from workers.errors import GiveUp, Misconfigured
from workers.ports import Bucket
from workers.storage import LocalBucket, asset_key, open_storage

USER = "11111111-2222-4333-8444-555555555555"
JOB = "aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee"
KEY = f"{USER}/{JOB}_0.png"

Read = Callable[[str, str], bytes]


@pytest.fixture(params=["local"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Bucket, Read]:
    """A storage, and a way to look into it that does not go through it."""
    root = tmp_path / "assets"
    return open_storage(f"file://{root}"), lambda bucket, key: (root / bucket / key).read_bytes()


def put(storage: Bucket, data: bytes, *, bucket: str = "sdxl_image_fast", key: str = KEY) -> str:
    return storage.put(bucket, key, data, content_type="image/png", seconds=5)


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


class TestOpening:
    @pytest.mark.parametrize("url", ["file:///var/lib/my%20assets", "file://localhost/var/lib/my%20assets"])
    def test_a_file_url_names_a_folder(self, url: str) -> None:
        opened = open_storage(url)
        assert isinstance(opened, LocalBucket)
        assert opened.root == Path("/var/lib/my assets")

    @pytest.mark.parametrize(
        "url",
        ["s3://key:hunter2@bucket", "supabase:", "", "/var/lib", "file:relative", "file://host/path", "file:///a?b"],
    )
    def test_anything_else_is_refused_with_the_allowed_form_and_without_its_secrets(self, url: str) -> None:
        with pytest.raises(ValueError, match="file:///absolute/folder") as refused:
            open_storage(url)
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
