"""What Supabase Storage promises beyond the contract. It is a server on loopback."""

import time
from pathlib import Path
from typing import Any

import pytest

from tests.storage.asking import KEY, NEVER, at, closed_port, get, public, put, remove, signed
from tests.supabase_server import KEY as SERVICE_KEY
from tests.supabase_server import Fault, SupabaseServer, payload_of
from workers.errors import GiveUp, Misconfigured, TryAgain
from workers.storage import open_storage


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
        put(at(supabase), b"picture")
        assert supabase.objects == {f"sdxl_image_fast/{KEY}": (b"picture", "image/png")}

    def test_a_duplicate_of_the_same_bytes_is_a_success(self, strict: SupabaseServer) -> None:
        strict.misbehave("lost")
        with pytest.raises(TryAgain):
            put(at(strict), b"picture")
        put(at(strict), b"picture")
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

    @pytest.mark.parametrize(
        ("fault", "end"), [("gateway_down", TryAgain), ("denied", Misconfigured), ("redirect", Misconfigured)]
    )
    def test_a_refusal_to_read_is_not_an_empty_place(
        self, supabase: SupabaseServer, fault: Fault, end: type[Exception]
    ) -> None:
        put(at(supabase), b"picture")
        supabase.misbehave(fault)
        with pytest.raises(end):
            get(at(supabase))

    @pytest.mark.parametrize(
        ("fault", "end"),
        [
            ("gateway_down", TryAgain),
            ("denied", Misconfigured),
            ("redirect", Misconfigured),
            ("web_page", Misconfigured),
        ],
    )
    def test_a_refusal_to_remove_is_not_a_removal(
        self, supabase: SupabaseServer, fault: Fault, end: type[Exception]
    ) -> None:
        put(at(supabase), b"picture")
        supabase.misbehave(fault)
        with pytest.raises(end):
            remove(at(supabase))
        assert get(at(supabase)) == b"picture"

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
        put(at(supabase), b"picture")

    @pytest.mark.parametrize("faults", [("hang",), ("drip",), ("conflict", "drip")])
    def test_nothing_goes_on_beyond_its_seconds(self, supabase: SupabaseServer, faults: tuple[Fault, ...]) -> None:
        """Also the look at what is stored is within them."""
        supabase.misbehave(*faults)
        began = time.monotonic()
        with pytest.raises(TryAgain, match=r"no complete answer within 0\.3 s"):
            put(at(supabase), b"picture", seconds=0.3)
        assert time.monotonic() - began < 5

    def test_a_server_that_is_away_is_tried_again(self) -> None:
        storage = open_storage("supabase:", supabase_url=f"http://127.0.0.1:{closed_port()}", supabase_key="key")
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


class TestUrls:
    def test_a_signed_one_holds_as_long_as_was_asked(self, supabase: SupabaseServer) -> None:
        put(at(supabase), b"picture")
        token = signed(at(supabase), holds=86_400).partition("?token=")[2]
        told = payload_of(token)
        assert (told["url"], told["exp"] - told["iat"]) == (f"sdxl_image_fast/{KEY}", 86_400)
        method, path, headers = supabase.requests[-1]
        assert (method, path) == ("POST", f"/storage/v1/object/sign/sdxl_image_fast/{KEY}")
        assert headers["Authorization"] == f"Bearer {SERVICE_KEY}"

    def test_a_public_one_is_made_without_asking(self, supabase: SupabaseServer) -> None:
        assert public(at(supabase)) == f"{supabase.url}/storage/v1/object/public/sdxl_image_fast/{KEY}"
        assert supabase.requests == []

    def test_what_is_gone_is_tried_again_for_a_while_and_not_for_ever(self, supabase: SupabaseServer) -> None:
        """Nobody has to mend the set-up because somebody removed a picture: the lane goes on."""
        with pytest.raises(TryAgain, match="has no sdxl_image_fast/"):
            signed(at(supabase))

    @pytest.mark.parametrize(
        ("fault", "end"),
        [
            ("slow_down", TryAgain),
            ("gateway_down", TryAgain),
            ("error", TryAgain),
            ("denied", Misconfigured),
            ("bad_jwt", Misconfigured),
            ("web_page", Misconfigured),
            ("redirect", Misconfigured),
        ],
    )
    def test_each_refusal_is_of_its_class(self, supabase: SupabaseServer, fault: Fault, end: type[Exception]) -> None:
        put(at(supabase), b"picture")
        supabase.misbehave(fault)
        with pytest.raises(end) as ended:
            signed(at(supabase))
        assert SERVICE_KEY not in str(ended.value)

    @pytest.mark.parametrize("fault", ["hang", "drip"])
    def test_signing_goes_on_no_longer_than_its_seconds(self, supabase: SupabaseServer, fault: Fault) -> None:
        supabase.misbehave(fault)
        with pytest.raises(TryAgain, match=r"no complete answer within 0\.3 s"):
            signed(at(supabase), seconds=0.3)
