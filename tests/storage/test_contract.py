"""One contract for every storage. Supabase and S3 are servers on loopback."""

import threading
from collections.abc import Callable
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest

from tests.storage.asking import JOB, KEY, NEVER, USER, get, public, put, remove, signed
from tests.storage.conftest import Read
from workers.errors import GiveUp
from workers.ports import Bucket

Url = Callable[..., str]


class TestEveryStorage:
    def test_what_is_put_lies_under_its_key_in_its_bucket(self, storage: tuple[Bucket, Read]) -> None:
        bucket, read = storage
        put(bucket, b"picture")
        assert read("sdxl_image_fast", KEY) == b"picture"

    def test_a_second_put_of_the_same_bytes_is_a_success(self, storage: tuple[Bucket, Read]) -> None:
        bucket, read = storage
        put(bucket, b"picture")
        put(bucket, b"picture")
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

    @pytest.mark.parametrize("size", [0, 7, 700_000])
    def test_what_was_put_is_got(self, storage: tuple[Bucket, Read], size: int) -> None:
        data = bytes(number % 251 for number in range(size))
        put(storage[0], data)
        assert get(storage[0], most=size + 1) == data

    def test_no_more_is_got_than_was_asked_for(self, storage: tuple[Bucket, Read]) -> None:
        """Whoever has put another file there shall not fill our memory with it."""
        put(storage[0], b"picture, and much more")
        assert get(storage[0], most=7) == b"picture"

    def test_where_nothing_was_put_there_is_nothing(self, storage: tuple[Bucket, Read]) -> None:
        put(storage[0], b"picture")
        assert get(storage[0], key=f"{USER}/{JOB}_1.png") is None

    @pytest.mark.parametrize("key", ["../../etc/passwd", f"../{USER}/{JOB}_0.png", f"{KEY}?download", ""])
    def test_nothing_is_got_by_a_key_but_a_built_one(self, storage: tuple[Bucket, Read], key: str) -> None:
        with pytest.raises(GiveUp, match="key must be"):
            get(storage[0], key=key)

    def test_what_is_removed_is_gone_and_its_neighbour_is_not(self, storage: tuple[Bucket, Read]) -> None:
        """As often as one asks, and whether or not it was ever there."""
        other = f"{USER}/{JOB}_1.png"
        put(storage[0], b"picture")
        put(storage[0], b"another", key=other)
        for _ in range(2):
            remove(storage[0])
            assert get(storage[0]) is None
        assert get(storage[0], key=other) == b"another"

    def test_what_was_removed_can_be_put_again(self, storage: tuple[Bucket, Read]) -> None:
        put(storage[0], b"picture")
        remove(storage[0])
        put(storage[0], b"picture")
        assert get(storage[0]) == b"picture"

    @pytest.mark.parametrize("key", ["../../etc/passwd", f"../{USER}/{JOB}_0.png", f"{USER}/", ""])
    def test_nothing_is_removed_by_a_key_but_a_built_one(self, storage: tuple[Bucket, Read], key: str) -> None:
        with pytest.raises(GiveUp, match="key must be"):
            remove(storage[0], key=key)

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

    @pytest.mark.parametrize("url", [signed, public], ids=["signed", "public"])
    def test_a_url_gives_anybody_the_bytes(self, storage: tuple[Bucket, Read], url: Url) -> None:
        """Without a key, as a browser asks. The bucket is a public one, where there are such."""
        put(storage[0], b"picture")
        with urlopen(url(storage[0]), timeout=NEVER) as answer:
            assert answer.read() == b"picture"

    def test_only_a_signed_url_is_a_secret(self, storage: tuple[Bucket, Read]) -> None:
        put(storage[0], b"picture")
        assert urlsplit(public(storage[0])).query == ""
        assert urlsplit(public(storage[0])).path == urlsplit(signed(storage[0])).path.replace("/sign/", "/public/")

    @pytest.mark.parametrize("url", [signed, public], ids=["signed", "public"])
    @pytest.mark.parametrize("key", [f"../{KEY}", f"{USER}/../x.png", f"{KEY}?download", ""])
    def test_no_url_is_made_of_a_key_but_a_built_one(self, storage: tuple[Bucket, Read], url: Url, key: str) -> None:
        with pytest.raises(GiveUp, match="key must be"):
            url(storage[0], key=key)
