"""What people name as a source, and what of it may be shown."""

from __future__ import annotations

import pytest

from marc_core.errors import ConfigError, SourceError
from marc_core.live.addresses import (
    check_allowed,
    checked,
    id_of,
    kind_of,
    shown,
    split_name,
    without_secrets,
)
from marc_core.live.config import SourceConfig, WatchConfig

SECRET = "rtsp://admin:hunter2@10.0.0.7:554/stream1?token=abc"


def test_names_and_ids() -> None:
    assert split_name("gate=rtsp://h/s", ()) == ("gate", "rtsp://h/s")
    assert split_name("yard=~/rec", ()) == ("yard", "~/rec")
    assert split_name("memory.uri=/x", ()) == (None, "memory.uri=/x")
    assert split_name("only=/x", ("only",)) == (None, "only=/x")
    assert split_name("http://h/s?a=1", ()) == (None, "http://h/s?a=1")
    with pytest.raises(ConfigError, match=r"yard=\./rec"):
        split_name("yard=rec", ("only",))
    with pytest.raises(ConfigError, match="Ids of sources"):
        split_name("north gate=rtsp://h/s", ())
    assert id_of(SECRET) == "10-0-0-7-stream1"
    assert id_of("https://h.example/cam/live.m3u8") == "h-example-cam-live"


def test_kinds() -> None:
    kinds = {
        "http://h/a/live.m3u8?x=1": "hls", "rtsp://h/s": "stream", "http://h/feed.ts": "stream",
        "/var/rec": "folder", "s3://bucket/rec": "folder",
    }  # fmt: skip
    assert {a: kind_of(SourceConfig(address=a)) for a in kinds} == kinds


def test_secrets_are_not_shown() -> None:
    assert shown(SECRET) == "rtsp://10.0.0.7:554/stream1"
    text = without_secrets(f"401 for {SECRET}, hunter2, token=abc", SECRET)
    assert "hunter2" not in text
    assert "abc" not in text
    piece = "Client error for url 'http://admin:other@h/piece1.ts?token=own'\nMore: http://x/y"
    assert without_secrets(piece, SECRET) == "Client error for url 'http://h/piece1.ts'"
    assert without_secrets("", SECRET) == ""
    assert without_secrets("no such http://[u:p@h", SECRET) == "no such ***"


def test_an_address_names_a_host_where_it_needs_one() -> None:
    with pytest.raises(SourceError, match="must name a host"):
        check_allowed("rtsp:///stream", WatchConfig().allow)
    check_allowed("udp://:1234", WatchConfig().allow)


@pytest.mark.parametrize(
    "address", ["http://u:pa[ss@h/x.m3u8", "rtsp://h:99999/s", "rtsp://u:a/b@h"]
)
def test_what_is_no_address_is_said_without_its_password(address: str) -> None:
    for ask in (id_of, lambda a: kind_of(SourceConfig(address=a)), lambda a: check_allowed(a, ())):
        with pytest.raises(ConfigError, match="cannot be read") as said:
            ask(address)
        assert "pa" not in str(said.value).split("It is")[0]


@pytest.mark.parametrize("address", ["file:///etc/passwd", "concat:a|b", "gopher://h/", "data:x"])
def test_only_allowed_schemes_are_read(address: str) -> None:
    with pytest.raises(SourceError, match=r"watch\.allow"):
        check_allowed(address, WatchConfig().allow)
    check_allowed("https://cam.example/x", ("https://*.example",))
    with pytest.raises(SourceError):
        check_allowed("https://cam.example.evil/x", ("https://*.example",))


def test_ids_are_plain_names() -> None:
    source = SourceConfig(address="rtsp://h/s")
    assert checked("gate", source, WatchConfig().allow).camera == "gate"
    with pytest.raises(ConfigError, match="letters, digits"):
        checked("../up", source, WatchConfig().allow)
