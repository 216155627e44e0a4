"""What is public and what is not, address by address; and URLs taken apart in one way only."""

import socket
from ipaddress import ip_address

import pytest

from workers.references.addresses import addresses, is_public
from workers.references.urls import parse

CLOSED = """
0.0.0.0 0.1.2.3 10.0.0.1 10.255.255.255 100.64.0.1 100.100.100.200 100.127.255.255 127.0.0.1 127.255.255.254
168.63.129.16 169.254.0.1 169.254.169.254 172.16.0.1 172.31.255.255 192.0.0.1 192.0.0.9 192.0.0.170 192.0.2.1
192.88.99.1 192.168.0.1 198.18.0.1 198.19.255.255 198.51.100.7 203.0.113.7 224.0.0.1 239.255.255.250 240.0.0.1
255.255.255.255
:: ::1 ::7f00:1 ::808:808 ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:169.254.169.254 ::ffff:0:7f00:1 64:ff9b::127.0.0.1
64:ff9b::a9fe:a9fe 64:ff9b:1::1 100::1 2001::1 2001:0:4136:e378:8000:63bf:3fff:fdd2 2001:2::1 2001:10::1 2001:20::1
2001:db8::1 2002:7f00:1:: 2002:808:808:: 3fff::1 4000::1 5f00::1 fc00::1 fd00:ec2::254 fe80::1 fe80::1%1
2606:4700::1%1 fec0::1 ff02::1 ff0e::1
"""
OPEN = """
1.1.1.1 8.8.8.8 93.184.216.34 100.63.255.255 100.128.0.1 126.255.255.255 128.0.0.1 172.15.255.255 172.32.0.1
192.0.1.1 192.167.255.255 192.169.0.1 198.17.255.255 198.20.0.1 223.255.255.255
2001:4860:4860::8888 2606:4700::1111 2a00:1450::1 ::ffff:8.8.8.8 64:ff9b::8.8.8.8
"""


@pytest.mark.parametrize("address", CLOSED.split())
def test_nobody_is_led_inside(address: str) -> None:
    assert not is_public(ip_address(address))


@pytest.mark.parametrize("address", OPEN.split())
def test_the_internet_is_open(address: str) -> None:
    """The neighbours of each closed range are among them: a mask that is one bit too wide is noticed."""
    assert is_public(ip_address(address))


def test_an_address_is_not_resolved() -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("resolved")

    assert addresses("8.8.8.8", 80, never) == [ip_address("8.8.8.8")]


def test_each_address_stands_once() -> None:
    answer = [(socket.AF_INET, 1, 6, "", ("1.1.1.1", 80))] * 2
    assert addresses("one.example", 80, lambda *_, **__: answer) == [ip_address("1.1.1.1")]


@pytest.mark.parametrize(
    ("url", "host_port", "target"),
    [
        ("http://Host.Example", "host.example:80", "/"),
        ("HTTPS://host.example./a", "host.example:443", "/a"),
        ("http://host.example:8080/a?b=c#d", "host.example:8080", "/a?b=c"),
        (" http://host.example/a b ", "host.example:80", "/a%20b"),
        ("http://host.example/%C3%A9/é", "host.example:80", "/%C3%A9/%C3%A9"),
        ("http://bücher.example/", "xn--bcher-kva.example:80", "/"),
        ("http://[0:0::1]:81/", "[::1]:81", "/"),
        ("http://host.example?a=[1]&b=<>", "host.example:80", "/?a=[1]&b=%3C%3E"),
        ("http://host.example//other.example/a", "host.example:80", "//other.example/a"),
    ],
)
def test_a_url_is_taken_apart_once(url: str, host_port: str, target: str) -> None:
    assert (parse(url).host_port, parse(url).target) == (host_port, target)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("ftp://host.example/hunter2", "must begin with http:// or https://"),
        ("file:///etc/hunter2", "must begin with http:// or https://"),
        ("gopher://host.example/hunter2", "must begin with http:// or https://"),
        ("data:image/png;base64,hunter2", "must begin with http:// or https://"),
        ("//host.example/hunter2", "must begin with http:// or https://"),
        ("/etc/hunter2", "must begin with http:// or https://"),
        ("", "must begin with http:// or https://"),
        ("http://user:hunter2@host.example/", "must not hold a user or a password"),
        ("http://hunter2@host.example/", "must not hold a user or a password"),
        ("http://public.example@127.0.0.1/hunter2", "must not hold a user or a password"),
        ("http://host.example\\@127.0.0.1/hunter2", "holds a control character or a backslash"),
        ("http://host.example/hunter2\r\nX-Key: a", "holds a control character or a backslash"),
        ("http://host.ex\tample/hunter2", "holds a control character or a backslash"),
        ("http://host.example/hunter2\0", "holds a control character or a backslash"),
        ("http:///hunter2", "names a host that is none"),
        ("http://:80/hunter2", "names a host that is none"),
        ("http://ho st.example/hunter2", "names a host that is none"),
        ("http://%31%32%37.0.0.1/hunter2", "names a host that is none"),
        ("http://a..example/hunter2", "names a host that is none"),
        ("http://" + "a" * 64 + ".example/hunter2", "names a host that is none"),
        ("http://" + "a." * 130 + "example/hunter2", "names a host that is none"),
        ("http://[fe80::1%25eth0]/hunter2", "names a host that is none"),
        ("http://[hunter2]/", "cannot be read"),
        ("http://host.example:99999/hunter2", "cannot be read"),
        ("http://host.example:hunter2/", "cannot be read"),
        ("http://host.example/hunter2\ud800", "cannot be read"),
        ("http://host.example:0/hunter2", "names port 0"),
        ("http://host.example/" + "hunter2" * 2000, "is longer than 8192 characters"),
        ("http://127.1/", "writes its address in another form than four decimal numbers"),
        ("http://0x7f000001/", "writes its address in another form than four decimal numbers"),
        ("http://1.2.3.0x4/", "writes its address in another form than four decimal numbers"),
        ("http://1.2.3.4.5/", "writes its address in another form than four decimal numbers"),
    ],
)
def test_a_url_that_cannot_be_used_is_refused_without_being_shown(url: str, reason: str) -> None:
    with pytest.raises(ValueError) as refused:
        parse(url)
    assert str(refused.value) == reason
    assert "hunter2" not in str(refused.value)
