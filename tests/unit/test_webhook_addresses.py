"""Where webhooks may lead: the form of a URL, every kind of address that is not public, and names that change their mind."""

import asyncio
import contextlib
import ipaddress
import shutil
import ssl
import subprocess
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path

import pytest
from pydantic import ValidationError

from services.api.features.webhooks.deliveries import LONGEST_PAUSE_S, pause_after
from services.api.settings import ApiSettings
from shared.contracts.webhooks import WebhookRequest, events_of
from shared.platform.public_addresses import literal, may_connect, networks_of
from shared.platform.safe_post import CheckedNetwork, Poster, look_up

REFUSED_ADDRESSES = [
    "0.0.0.0", "127.0.0.1", "127.8.8.8", "10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.1.1", "169.254.169.254",
    "100.64.0.1", "100.100.100.200", "192.0.0.192", "192.0.2.1", "198.18.0.1", "203.0.113.5", "224.0.0.1", "239.255.255.250",
    "240.0.0.1", "255.255.255.255", "168.63.129.16", "::", "::1", "::7f00:1", "::ffff:127.0.0.1", "::ffff:10.0.0.1",
    "::ffff:169.254.169.254", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "2002:7f00:1::", "2002:a00:1::1",
    "2001:0:7f00:1::", "fe80::1", "fec0::1", "fc00::1", "fd00:ec2::254", "ff02::1", "2001:db8::1", "100::1",
]  # fmt: skip
PUBLIC_ADDRESSES = ["1.1.1.1", "93.184.215.14", "172.32.0.1", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"]


@pytest.mark.parametrize("address", REFUSED_ADDRESSES)
def test_not_public(address: str):
    assert not may_connect(ipaddress.ip_address(address), ())


@pytest.mark.parametrize("address", PUBLIC_ADDRESSES)
def test_public(address: str):
    assert may_connect(ipaddress.ip_address(address), ())


def test_what_the_operator_allows():
    networks = networks_of("10.1.0.0/16, ::1/128")
    for address, allowed in (("10.1.2.3", True), ("10.2.0.1", False), ("::1", True), ("127.0.0.1", False)):
        assert may_connect(ipaddress.ip_address(address), networks) == allowed
    assert may_connect(ipaddress.ip_address("::ffff:10.1.2.3"), networks_of("10.1.0.0/16, ::ffff:0:0/96"))
    assert ApiSettings(webhook_allow="10.0.0.1/8").webhook_networks == networks_of("10.0.0.0/8")
    with pytest.raises(ValidationError):
        ApiSettings(webhook_allow="everything")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("ftp://hooks.example/x", "https://"),
        ("//hooks.example/x", "https://"),
        ("https:///x", "host"),
        ("https://user:secret@hooks.example/", "password"),
        ("https://hooks.example\\@10.0.0.1/", "backslash"),
        ("https://hooks.example/x#y", "#"),
        ("https://hooks.example/a b", "ASCII"),
        ("https://hooks.example/\r\nx: y", "ASCII"),
        ("https://h\u00f6\u00f6ks.example/", "ASCII"),
        ("https://hooks.example:22/", "port"),
        ("https://hooks.example:0/", "port"),
        ("https://hooks.example:99999/", "[Pp]ort"),
        ("http://2130706433/", "four decimal"),
        ("http://0x7f000001/", "four decimal"),
        ("http://0x7f.1/", "four decimal"),
        ("http://017700000001/", "four decimal"),
        ("http://127.1/", "four decimal"),
        ("http://0177.0.0.1/", "four decimal"),
        ("http://[fe80::1%25eth0]/", "host"),
        ("http://[::1/", "IPv6"),
        ("https://hooks.example/" + "x" * 2000, "2000"),
    ],
)
def test_urls_that_do_not_say_plainly_where_they_lead(url: str, words: str):
    with pytest.raises(ValidationError, match=words):
        WebhookRequest(url=url)


@pytest.mark.parametrize(
    "url",
    [
        "https://hooks.example",
        "https://a-b.hooks.example:8443/x?y=z",
        "http://1.1.1.1:80/",
        "http://[2606:4700::1111]:3000/",
    ],
)
def test_good_urls(url: str):
    assert WebhookRequest(url=url).url == url


@pytest.mark.parametrize("host", ["2130706433", "0x7f000001", "0x7f.1", "127.1", "localhost", "127.0.0.1"])
async def test_other_ways_to_write_loopback_are_seen_through_when_they_are_looked_up(host: str):
    """They never get here, as a URL with them is refused; were one to, its address is what counts."""
    reply = await Poster(CheckedNetwork(())).post(f"http://{host}:9/", [], b"{}")
    assert reply[:3] == (None, "it leads to an address that is not allowed", 0.0)
    assert all(literal(address) for address in await look_up("localhost", 9))


class Listener:
    """A server that answers 200 and remembers what it was sent."""

    def __init__(self):
        self.heads: list[bytes] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            self.heads.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nretry-after: 7\r\n\r\n")
            await writer.drain()
        writer.close()


@contextlib.asynccontextmanager
async def listening(
    host: str, port: int = 0, tls: ssl.SSLContext | None = None
) -> AsyncGenerator[tuple[Listener, int]]:
    listener = Listener()
    server = await asyncio.start_server(listener, host, port, ssl=tls)
    async with server:
        yield listener, server.sockets[0].getsockname()[1]


class Fickle:
    """A resolver whose answer is another one each time."""

    def __init__(self, *answers: list[str]):
        self.answers = list(answers)
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append(host)
        return self.answers.pop(0)


async def test_a_name_that_changes_its_address_after_the_check_gains_nothing():
    async with listening("127.0.0.1") as (good, port), listening("127.0.0.2", port) as (bad, _):
        fickle = Fickle(["127.0.0.1"], ["127.0.0.2"], ["127.0.0.1", "127.0.0.2"])
        poster = Poster(CheckedNetwork(networks_of("127.0.0.1/32"), fickle))
        reply = await poster.post(f"http://hooks.example:{port}/x", [], b"{}")
        assert (reply.status, reply.retry_after_s) == (200, 7.0)
        assert fickle.asked == ["hooks.example"], "what was checked is what was connected to: nobody asks again"
        assert f"host: hooks.example:{port}".encode() in good.heads[0].lower()
        for _ in range(2):
            assert (await poster.post(f"http://hooks.example:{port}/x", [], b"{}")).error == (
                "it leads to an address that is not allowed"
            )
        assert len(good.heads) == 1
        assert bad.heads == []


async def test_the_next_address_is_tried_when_one_does_not_answer():
    async with listening("127.0.0.2") as (listener, port):
        poster = Poster(CheckedNetwork(networks_of("127.0.0.0/8"), Fickle(["127.0.0.3", "127.0.0.2"])))
        assert (await poster.post(f"http://hooks.example:{port}/", [], b"{}")).status == 200
        assert len(listener.heads) == 1


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate of hooks.example and its key, in one file."""
    openssl = shutil.which("openssl")
    assert openssl is not None, "install openssl"
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    argv = [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1"]
    argv += ["-subj", "/CN=hooks.example", "-addext", "subjectAltName=DNS:hooks.example"]
    subprocess.run([*argv, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)
    certificate.write_text(certificate.read_text() + key.read_text())
    return certificate


async def test_the_certificate_must_be_the_names(certificate: Path):
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    served.load_cert_chain(certificate)
    trusting = ssl.create_default_context(cafile=str(certificate))
    network = CheckedNetwork(networks_of("127.0.0.1/32"), Fickle(["127.0.0.1"], ["127.0.0.1"], ["127.0.0.1"]))
    async with listening("127.0.0.1", tls=served) as (_, port):
        assert (await Poster(network, context=trusting).post(f"https://hooks.example:{port}/", [], b"{}")).status == 200
        other = await Poster(network, context=trusting).post(f"https://other.example:{port}/", [], b"{}")
        stranger = await Poster(network).post(f"https://hooks.example:{port}/", [], b"{}")
    assert other.error == stranger.error == "the certificate is not trusted"


async def test_a_receiver_that_is_silent_and_one_that_is_not_there():
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1")
    port = server.sockets[0].getsockname()[1]
    poster = Poster(CheckedNetwork(networks_of("127.0.0.1/32")), total_s=0.2)
    async with server:
        assert (await poster.post(f"http://127.0.0.1:{port}/", [], b"{}")).error == "no answer within 0 s"
    assert (await poster.post(f"http://127.0.0.1:{port}/", [], b"{}")).error == "no connection (ConnectError)"
    for unreadable in ("https://2(\U0006e85f", "http://x:99999/", "http://[::1/"):
        assert "cannot be read" in ((await poster.post(unreadable, [], b"{}")).error or "")


def test_pauses_grow_and_last_a_day():
    pauses = [pause_after(attempt, spread=0) for attempt in range(1, 40)]
    assert pauses[:4] == [5, 15, 45, 135]
    assert max(pauses) == LONGEST_PAUSE_S
    within_a_day = next(n for n in range(40) if sum(pauses[:n]) > 24 * 3600)
    assert 15 <= within_a_day <= 20
    assert pause_after(1, spread=0.999) == pytest.approx(3.75, abs=0.01)
    assert pause_after(1, asked_s=600) == 600
    assert pause_after(1, asked_s=1e9) == LONGEST_PAUSE_S


def test_what_webhooks_are_told_of():
    assert events_of("status", {"status": "running"}, None) == []
    assert events_of("status", {"status": "paused"}, None) == ["distillation.job.paused"]
    over = {"code": "budget_exceeded"}
    assert events_of("status", {"status": "failed"}, over["code"]) == [
        "fine_tuning.job.failed",
        "distillation.budget.exceeded",
    ]
    assert events_of("status", {"status": "failed"}, "x") == ["fine_tuning.job.failed"]
    assert events_of("budget", over, None) == ["distillation.budget.exceeded"]
    assert events_of("budget", {"budget": {}}, None) == []
    assert events_of("metrics", {"round": 1, "pass_rate": [0.5]}, None) == []
    assert events_of("metrics", {"round": 1, "completed": True}, None) == ["distillation.round.completed"]
