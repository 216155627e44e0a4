"""Real HTTP on loopback: what is sent, when it counts as delivered, and that it always ends."""

import base64
import hashlib
import hmac
import json
import socket
import threading
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path

import pytest

from ourvidz.loopback_receiver import Fault, LoopbackReceiver
from workers.receiver import HttpReceiver, wait_asked
from workers.signature import sign, signing_key

BODY = b'{"job_id": "j", "status": "completed", "assets": [], "metadata": {}}'
SECRET = "whsec_" + base64.b64encode(b"a key of twenty-four byt").decode()
NEVER = 60.0
"""A limit that only a broken test reaches."""


@pytest.fixture
def loopback() -> Iterator[LoopbackReceiver]:
    with LoopbackReceiver() as receiver:
        yield receiver


def to(loopback: LoopbackReceiver, *, bearer: str | None = None, secret: str | None = None) -> HttpReceiver:
    return HttpReceiver(loopback.url, bearer, secret)


class TestSending:
    def test_the_body_arrives_as_it_is_with_the_id_that_stays_the_same(self, loopback: LoopbackReceiver) -> None:
        answer = to(loopback).post("j:1:completed", BODY, seconds=NEVER)
        [told] = loopback.deliveries
        assert (answer.delivered, answer.http_code, answer.error) == (True, 200, None)
        assert told.body == json.loads(BODY)
        assert told.headers["content-type"] == "application/json"
        assert told.webhook_id == "j:1:completed"
        assert "webhook-signature" not in told.headers
        assert answer.head is not None
        assert '"success": true' in answer.head

    @pytest.mark.parametrize(("secret", "key"), [(SECRET, b"a key of twenty-four byt"), ("plain", b"plain")])
    def test_the_signature_is_the_one_of_the_specification(
        self, loopback: LoopbackReceiver, secret: str, key: bytes
    ) -> None:
        to(loopback, secret=secret).post("j:1:completed", BODY, seconds=NEVER)
        headers = loopback.deliveries[0].headers
        signed = f"j:1:completed.{headers['webhook-timestamp']}.".encode() + BODY
        wanted = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
        assert headers["webhook-signature"] == f"v1,{wanted}"

    def test_the_specifications_own_example_holds(self) -> None:
        """The vector of the Standard Webhooks libraries' test suites."""
        key = signing_key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
        given = sign(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
        assert given == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="

    def test_the_receiver_turns_a_wrong_signature_away(self) -> None:
        with LoopbackReceiver(secret=SECRET) as loopback:
            assert to(loopback, secret=SECRET).post("a", BODY, seconds=NEVER).delivered
            assert to(loopback, secret="another").post("b", BODY, seconds=NEVER).http_code == 401
            assert to(loopback).post("c", BODY, seconds=NEVER).http_code == 401
            assert [told.webhook_id for told in loopback.deliveries] == ["a"]

    def test_the_bearer_goes_along(self) -> None:
        seen = OneAnswer(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        assert HttpReceiver(seen.url, "service-key", None).post("a", BODY, seconds=NEVER).delivered
        assert b"Authorization: Bearer service-key\r\n" in seen.request

    def test_nothing_is_taken_from_the_environment(
        self, loopback: LoopbackReceiver, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """A proxy would see every prompt; a .netrc would replace the bearer."""
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, "http://127.0.0.1:9")
        (tmp_path / "netrc").write_text("machine 127.0.0.1 login a password b\n")
        monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
        assert to(loopback).post("a", BODY, seconds=NEVER).delivered
        seen = OneAnswer(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        assert HttpReceiver(seen.url, None, None).post("a", BODY, seconds=NEVER).delivered
        assert b"authorization" not in seen.request.lower()

    def test_threads_have_sessions_of_their_own(self, loopback: LoopbackReceiver) -> None:
        receiver = to(loopback)
        threads = [
            threading.Thread(target=receiver.post, args=(f"j{n}", BODY), kwargs={"seconds": NEVER}) for n in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(told.webhook_id or "" for told in loopback.deliveries) == [f"j{n}" for n in range(8)]


class TestVerdict:
    @pytest.mark.parametrize(
        ("fault", "code"),
        [("error", 500), ("refuse", 400), ("deny", 401), ("slow_down", 429), ("redirect", 307), ("unsuccessful", 200)],
    )
    def test_only_200_without_a_no_is_delivered(self, loopback: LoopbackReceiver, fault: Fault, code: int) -> None:
        loopback.misbehave(fault)
        answer = to(loopback).post("a", BODY, seconds=NEVER)
        assert (answer.delivered, answer.http_code, answer.error) == (False, code, None)

    def test_a_500_after_having_accepted_is_sent_again_under_the_same_id(self, loopback: LoopbackReceiver) -> None:
        loopback.misbehave("error")
        receiver = to(loopback)
        assert not receiver.post("a", BODY, seconds=NEVER).delivered
        assert receiver.post("a", BODY, seconds=NEVER).delivered
        assert [told.webhook_id for told in loopback.deliveries] == ["a", "a"]

    def test_a_redirect_is_not_followed(self, loopback: LoopbackReceiver) -> None:
        """The bearer and the prompt go to nobody but the configured URL."""
        with LoopbackReceiver() as elsewhere:
            loopback.misbehave("redirect", value=elsewhere.url)
            assert to(loopback, bearer="key").post("a", BODY, seconds=NEVER).http_code == 307
            assert elsewhere.requests == 0

    def test_a_redirect_is_not_even_looked_into(self) -> None:
        """Its target may be nonsense, and its body endless."""
        seen = OneAnswer(b"HTTP/1.1 307 Go\r\nLocation: http://[nonsense\r\n\r\n" + b"x" * 300_000)
        answer = HttpReceiver(seen.url, None, None).post("a", BODY, seconds=NEVER)
        assert (answer.http_code, answer.error) == (307, None)

    def test_an_answer_that_is_not_json_counts_by_its_code(self) -> None:
        for said in (b"ok", b"[" * 9000, b"\xff\xfe", b"false"):
            seen = OneAnswer(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(said), said))
            assert HttpReceiver(seen.url, None, None).post("a", BODY, seconds=NEVER).delivered

    def test_the_head_is_short_and_printable(self) -> None:
        said = b"a\x00b\x1b[31m\n" + b"x" * 100_000
        seen = OneAnswer(b"HTTP/1.1 500 Oh\r\nContent-Length: %d\r\n\r\n%s" % (len(said), said))
        head = HttpReceiver(seen.url, None, None).post("a", BODY, seconds=NEVER).head
        assert head is not None
        assert head.startswith("a b [31m x")
        assert head.isprintable()
        assert len(head) == 500

    def test_retry_after_is_read(self, loopback: LoopbackReceiver) -> None:
        loopback.misbehave("slow_down", value="17")
        assert to(loopback).post("a", BODY, seconds=NEVER).retry_after == 17.0

    @pytest.mark.parametrize(
        ("value", "seconds"),
        [
            ("0", 0.0),
            (" 120 ", 120.0),
            ("999999999999", 86400.0),
            (formatdate(1_000_030, usegmt=True), 30.0),
            (formatdate(999_000, usegmt=True), 0.0),
            ("-5", None),
            ("1e3", None),
            ("nan", None),
            ("soon", None),
            ("", None),
            ("Thu, 99 Jan 1970 00:00:00 GMT", None),
        ],
    )
    def test_retry_after_is_seconds_or_a_date(self, value: str, seconds: float | None) -> None:
        assert wait_asked(value, now=1_000_000.0) == seconds


class TestItEnds:
    @pytest.mark.parametrize("fault", ["drip", "drip_headers", "hang"])
    def test_a_receiver_that_never_ends_does_not_hold_the_lane(self, loopback: LoopbackReceiver, fault: Fault) -> None:
        """That this returns at all is the proof: each drips, or waits, until the receiver is closed."""
        loopback.misbehave(fault)
        answer = to(loopback).post("a", BODY, seconds=0.3)
        assert not answer.delivered
        assert answer.error == "no complete answer within 0.3 s"

    def test_a_lane_is_free_again_after_a_drip(self, loopback: LoopbackReceiver) -> None:
        loopback.misbehave("drip")
        receiver = to(loopback)
        assert not receiver.post("a", BODY, seconds=0.2).delivered
        assert receiver.post("a", BODY, seconds=NEVER).delivered

    def test_an_endless_answer_is_read_to_its_limit_only(self) -> None:
        seen = OneAnswer(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 300_000)
        assert HttpReceiver(seen.url, None, None).post("a", BODY, seconds=NEVER).http_code == 200

    def test_a_connection_that_is_closed_is_no_answer(self, loopback: LoopbackReceiver) -> None:
        loopback.misbehave("close")
        answer = to(loopback).post("a", BODY, seconds=NEVER)
        assert (answer.delivered, answer.http_code) == (False, None)
        assert answer.error == "the receiver closed the connection"

    def test_nobody_there_is_no_answer(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as closed:
            port = closed.getsockname()[1]
        answer = HttpReceiver(f"http://127.0.0.1:{port}/", None, None).post("a", BODY, seconds=NEVER)
        assert (answer.delivered, answer.http_code, answer.error) == (False, None, "connection refused")

    def test_what_is_no_http_is_no_answer(self) -> None:
        seen = OneAnswer(b"SSH-2.0-OpenSSH_9.2\r\n")
        answer = HttpReceiver(seen.url, None, None).post("a", BODY, seconds=NEVER)
        assert (answer.delivered, answer.http_code) == (False, None)

    def test_a_plain_server_behind_https_is_no_answer(self, loopback: LoopbackReceiver) -> None:
        url = loopback.url.replace("http://", "https://")
        answer = HttpReceiver(url, None, None).post("a", BODY, seconds=NEVER)
        assert answer.error is not None
        assert answer.error.startswith("TLS failed")


class TestSecrets:
    @pytest.mark.parametrize(
        "echoed",
        [
            '{"assets": ["https://p.co/storage/v1/object/sign/b/u/j_0.png?token=eyJh.hunter2"]}',
            '{"assets": ["https:\\/\\/b.s3.amazonaws.com\\/j.png?X-Amz-Credential=hunter2&X-Amz-Signature=hunter2"]}',
            "next=https%3A%2F%2Fp.co%2Fj.png%3Ftoken%3Dhunter2",
        ],
    )
    def test_a_receiver_that_echoes_signed_urls_does_not_put_them_into_the_history(self, echoed: str) -> None:
        """Whoever reads the history could fetch the pictures until they run out."""
        for whole in (echoed, "x" * (490 - echoed.index("hunter2")) + echoed):
            seen = OneAnswer(f"HTTP/1.1 500 X\r\nContent-Length: {len(whole)}\r\n\r\n{whole}".encode())
            head = HttpReceiver(seen.url, None, None).post("a", BODY, seconds=NEVER).head
            assert head is not None
            assert "hunter2" not in head
            assert "***" in head

    def test_a_receiver_that_echoes_them_does_not_put_them_into_the_history(self) -> None:
        said = b"x" * 495 + b"service-key and " + SECRET.encode()
        seen = OneAnswer(b"HTTP/1.1 401 No\r\nContent-Length: %d\r\n\r\n%s" % (len(said), said))
        head = HttpReceiver(seen.url, "service-key", SECRET).post("a", BODY, seconds=NEVER).head
        assert head == "x" * 495 + "*** a"

    def test_errors_do_not_repeat_the_url(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as closed:
            port = closed.getsockname()[1]
        receiver = HttpReceiver(f"http://127.0.0.1:{port}/?token=hunter2", "service-key", SECRET)
        said = repr(receiver.post("a", BODY, seconds=NEVER))
        assert not any(hidden in said for hidden in ("hunter2", "service-key", SECRET))

    @pytest.mark.parametrize(
        ("url", "bearer", "secret"),
        [
            ("ftp://host/hunter2", None, None),
            ("http:///hunter2", None, None),
            ("http://user:hunter2@host/", None, None),
            ("http://host:99999/hunter2", None, None),
            ("http://host/", "hunter2\r\nX: y", None),
            ("http://host/", "", None),
            ("http://host/", None, "whsec_hunter2!"),
            ("http://host/", None, ""),
            ("http://host/", None, "whsec_"),
        ],
    )
    def test_what_cannot_be_used_is_refused_without_being_shown(
        self, url: str, bearer: str | None, secret: str | None
    ) -> None:
        with pytest.raises(ValueError) as refused:
            HttpReceiver(url, bearer, secret)
        assert "hunter2" not in str(refused.value)


def test_the_loopback_receiver_logs_one_line_each_without_the_bearer(tmp_path: Path) -> None:
    log = tmp_path / "callbacks.jsonl"
    with LoopbackReceiver(log=log) as loopback:
        for name in ("a", "b"):
            to(loopback, bearer="service-key").post(name, BODY, seconds=NEVER)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["webhook-id"] for line in lines] == ["a", "b"]
    assert lines[0]["body"] == json.loads(BODY)
    assert "service-key" not in log.read_text()
    assert set(lines[0]) == {"time", "webhook-id", "body", "headers"}


class OneAnswer:
    """A raw server that gives one answer, whatever it is asked, and keeps the request."""

    def __init__(self, answer: bytes) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}/hook"
        self.request = b""
        self._answer = answer
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with self._listening, self._listening.accept()[0] as caller:
            while not self.request.endswith(BODY):
                self.request += caller.recv(65536)
            try:
                caller.sendall(self._answer)
            except ConnectionError:
                return  # the caller has read enough
