"""Which storage a URL names, and how keys are built."""

from pathlib import Path

import pytest

from tests.storage.asking import JOB, USER
from workers.errors import GiveUp
from workers.storage import LocalBucket, asset_key, open_storage, split_s3


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
