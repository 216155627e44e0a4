"""What a folder promises beyond the contract."""

import os
import stat
from pathlib import Path

import pytest

from tests.storage.asking import JOB, KEY, USER, get, public, put, remove, signed
from workers.errors import Misconfigured
from workers.storage import LocalBucket


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

    def test_a_link_is_nothing_that_was_put_there(self, tmp_path: Path) -> None:
        """Neither in the file's place nor in the folder's: what it leads to is somebody else's."""
        outside = tmp_path / "outside"
        outside.mkdir()
        (outside / f"{JOB}_0.png").write_bytes(b"picture")
        folder = tmp_path / "root" / "sdxl_image_fast"
        folder.mkdir(parents=True)
        (folder / USER).symlink_to(outside)
        assert get(LocalBucket(tmp_path / "root")) is None
        (folder / USER).unlink()
        (folder / USER).mkdir()
        (folder / KEY).symlink_to(outside / f"{JOB}_0.png")
        assert get(LocalBucket(tmp_path / "root")) is None

    def test_a_place_that_cannot_be_read_is_not_an_empty_one(self, tmp_path: Path) -> None:
        (tmp_path / "sdxl_image_fast" / KEY).mkdir(parents=True)
        with pytest.raises(Misconfigured, match=r"does not give sdxl_image_fast/.*Is a directory"):
            get(LocalBucket(tmp_path))

    def test_what_a_dead_writer_left_of_it_is_removed_too(self, tmp_path: Path) -> None:
        put(LocalBucket(tmp_path), b"picture")
        folder = tmp_path / "sdxl_image_fast" / USER
        (folder / f".{JOB}_0.png.4711.tmp").write_bytes(b"pict")
        remove(LocalBucket(tmp_path))
        assert list(folder.iterdir()) == []

    def test_a_disk_that_is_away_is_not_an_empty_one(self, tmp_path: Path) -> None:
        """Otherwise an erased picture would come back with it."""
        with pytest.raises(Misconfigured, match="is not there"):
            remove(LocalBucket(tmp_path / "mount"))

    def test_nothing_is_removed_through_a_link_that_leads_out(self, tmp_path: Path) -> None:
        outside = tmp_path / "outside"
        outside.mkdir()
        (outside / f"{JOB}_0.png").write_bytes(b"picture")
        (tmp_path / "root" / "sdxl_image_fast").mkdir(parents=True)
        (tmp_path / "root" / "sdxl_image_fast" / USER).symlink_to(outside)
        with pytest.raises(Misconfigured, match="leads out"):
            remove(LocalBucket(tmp_path / "root"))
        assert (outside / f"{JOB}_0.png").read_bytes() == b"picture"

    def test_what_cannot_be_removed_is_said(self, tmp_path: Path) -> None:
        (tmp_path / "sdxl_image_fast" / KEY).mkdir(parents=True)
        with pytest.raises(Misconfigured, match=r"does not let go of sdxl_image_fast/.*Is a directory"):
            remove(LocalBucket(tmp_path))

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

    def test_its_urls_are_those_of_this_host(self, tmp_path: Path) -> None:
        folder = tmp_path / "my assets"
        assert public(LocalBucket(folder)) == f"file://{tmp_path}/my%20assets/sdxl_image_fast/{KEY}"
        assert signed(LocalBucket(folder)) == public(LocalBucket(folder))
