"""What has been tried against the server, and what each attempt gets (docs/serving.md, the table).

Requests go in as a server hands them over (ASGI), with paths and headers that no client library
would send. What is too much, too slow or too deep is in test_overloads.py.
"""

from __future__ import annotations

import asyncio
import base64
import json
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from marc_core.question import EventFilter
from marc_core.video.source import locate
from serving.access import SCOPES
from serving.config import ServeConfig, UploadConfig
from serving.convert import prepare
from serving.keys import KeyFile, new_key
from serving.retriever import MemoryRetriever
from serving.student import EngineStudent
from tests.serving.attacks.conftest import LIMITS, SECRET
from tests.serving.conftest import make_app
from tests.serving.raw_requests import get, post, raw

# Paths that lead elsewhere

UP = ("../secret", "../../secret", "%2e%2e%2fsecret", "%252e%252e%252fsecret", "..%5csecret",
      "..%c0%afsecret", "secret%00", "%00", "secret%00.js", "..%2f..%2f..%2f..%2fetc%2fpasswd",
      "%2fetc%2fpasswd", "....//secret", "C:%5csecret", "\\\\host\\secret")  # fmt: skip
PLACES = ("/v1/videos/{}", "/v1/videos/{}/media", "/v1/videos/{}/events", "/v1/events/{}",
          "/v1/events/{}/thumbnail", "/v1/jobs/{}", "/js/{}", "/css/{}", "/{}")  # fmt: skip


@pytest.mark.parametrize("place", PLACES)
def test_paths_that_lead_elsewhere_lead_nowhere(app: FastAPI, place: str) -> None:
    for up in UP:
        found = get(app, place.format(up))
        assert found.status == 404, (up, found)
        assert SECRET not in found.body
        assert b"root:" not in found.body


# Addresses that the server would fetch

ADDRESSES = (
    "file:///etc/passwd", "file://localhost/etc/passwd", "http://127.0.0.1:8265/api/jobs",
    "http://localhost/", "http://[::1]/", "http://[::ffff:127.0.0.1]/", "http://[::ffff:7f00:1]/",
    "http://2130706433/", "http://0x7f000001/", "http://0177.0.0.1/", "http://127.1/", "http://0/",
    "http://169.254.169.254/latest/meta-data/", "http://[fd00:ec2::254]/latest/",
    "http://10.0.0.1/", "http://192.168.0.1/", "http://metadata.google.internal/", "http://rebound.example/a.mp4",
    "https://bucket@127.0.0.1/cams/a.mp4", "ftp://127.0.0.1/", "gopher://127.0.0.1/",
    "//127.0.0.1/", "s3://bucket@127.0.0.1/cams", "s3://127.0.0.1/cams", "s3://bucket/cams/../../other",
    "s3://bucket/cams/%2e%2e/other/../../x", "S3://bucket/other", "s3:/bucket/cams",
    "gs://bucket/cams", "\\\\127.0.0.1\\share", "concat:/etc/passwd|a.mp4", "pipe:0", "data:,x",
    "subfile,,start,0,end,9,,:/etc/passwd", "/nowhere/videos/../../etc/passwd",
    "/proc/self/environ",
)  # fmt: skip


class NoNetwork:
    """Refuses every name and connection, and remembers them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[Any] = []
        monkeypatch.setattr(socket, "getaddrinfo", self._refuse)
        monkeypatch.setattr(socket.socket, "connect", self._refuse)

    def _refuse(self, *args: Any, **_: Any) -> None:
        self.asked.append(args)
        raise OSError("no network here")


@pytest.mark.parametrize("uri", ADDRESSES)
def test_addresses_outside_of_the_roots_are_never_looked_up(
    app: FastAPI, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = NoNetwork(monkeypatch)
    assert post(app, "/v1/videos", {"uri": uri}).code == (403, "root_not_allowed")
    assert network.asked == []


def test_nothing_is_fetched_by_http_even_where_a_root_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """So there is no redirect to follow and no second DNS answer: MARC reads disks and buckets."""
    from marc_core.errors import SourceError

    network = NoNetwork(monkeypatch)
    for uri in ("http://example.org/videos/a.mp4", "https://rebound.example/a.mp4"):
        with pytest.raises(SourceError, match="local paths or"):
            locate(uri, {})
    assert network.asked == []


PLAYLISTS = {
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{there}\n#EXT-X-ENDLIST\n",
    "hls key": '#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI="{there}"\n#EXTINF:9,\n{there}\n',
    "concat": "ffconcat version 1.0\nfile {there}\n",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 9 RTP/AVP 96\n"
    "a=rtpmap:96 H264/90000\n",
    "dash": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><Period>'
    "<AdaptationSet><Representation><BaseURL>{there}</BaseURL></Representation></AdaptationSet>"
    "</Period></MPD>",
    "asx": '<asx version="3.0"><entry><ref href="{there}"/></entry></asx>',
}


@pytest.mark.parametrize("kind", PLAYLISTS)
def test_a_playlist_that_is_called_a_video_opens_no_other_file(
    kind: str, tmp_path: Path, small_memory: Path
) -> None:
    others = (small_memory / "archive").rglob("*.mp4")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0.05)
        port = listening.getsockname()[1]
        for there in (f"http://127.0.0.1:{port}/a.ts", f"file://{next(others)}", str(next(others))):
            path = tmp_path / "clip.mp4"
            path.write_text(PLAYLISTS[kind].format(there=there))
            with pytest.raises(Exception, match="cannot be opened as a video"):
                prepare(str(path), str(tmp_path / "out.mp4"), 0, convert=True)
        with pytest.raises(TimeoutError):
            listening.accept()
    assert not (tmp_path / "out.mp4").exists()


# Keys


@pytest.fixture(scope="module")
def keys(folder: Path) -> KeyFile:
    return KeyFile(folder / "keys.json")


def add(keys: KeyFile, *scopes: Any, **more: Any) -> str:
    key, token = new_key("someone", scopes or SCOPES, **more)
    keys.change(lambda every: every.update({key.id: key}))
    return token


@pytest.fixture(scope="module")
def locked(
    keys: KeyFile, folder: Path, serve_config: ServeConfig, retriever: MemoryRetriever,
    student: EngineStudent,
) -> FastAPI:  # fmt: skip
    add(keys)
    uploads = UploadConfig(folder=str(folder / "up2"))
    config = replace(serve_config, keys=str(keys.path), limits=LIMITS, uploads=uploads)
    return make_app(config, retriever, student)


def seen(app: FastAPI) -> FastAPI:
    """Return the application once it has looked at its keys again."""
    app.state.gateway.keys._file._looked_at = 0.0
    return app


def test_what_is_no_bearer_key_is_no_key(locked: FastAPI, keys: KeyFile) -> None:
    token = add(keys).encode()
    seen(locked)
    basic = base64.b64encode(b"mk:" + token)
    for headers in (
        [],
        [(b"authorization", b"Basic " + basic)],
        [(b"authorization", token)],
        [(b"authorization", b"Bearer ")],
        [(b"authorization", b"Bearer " + token[:-1])],
        [(b"authorization", b"Bearer " + token + b"\x00")],
        [(b"authorization", b"Bearer " + b"_" * 100_000)],
        [(b"authorization", "Bearer mk_\u00e9_\u00e9".encode())],
        [(b"authorization", b"Bearer x"), (b"authorization", b"Bearer " + token)],
        [(b"x-api-key", token)],
        [(b"cookie", b"key=" + token)],
    ):
        found = asyncio.run(raw(locked, "GET", "/v1/videos", headers=headers))
        assert found.status == 401, headers
        assert token not in found.body
    for query in ("key", "api_key", "access_token", "token", "signature"):
        assert get(locked, f"/v1/videos?{query}={token.decode()}").status == 401
    good = [(b"authorization", b"Bearer " + token)]
    assert asyncio.run(raw(locked, "GET", "/v1/videos", headers=good)).status == 200


def test_another_keys_videos_are_not_there_by_any_way(
    locked: FastAPI, keys: KeyFile, video_ids: list[str], retriever: MemoryRetriever
) -> None:
    mine, other = video_ids[:2]
    token = add(keys, *SCOPES, bound=EventFilter(video_ids=(mine,)))
    seen(locked)
    bearer = (b"authorization", f"Bearer {token}".encode())
    (event,) = retriever.session.archive.events(EventFilter(video_ids=(other,)), limit=1)
    for path in (
        f"/v1/videos/{other}", f"/v1/videos/{other}/events", f"/v1/videos/{other}/media",
        f"/v1/events/{event.event_id}", f"/v1/events/{event.event_id}/thumbnail",
    ):  # fmt: skip
        assert get(locked, path, token).status == 404
    assert get(locked, f"/v1/videos/{other}", token, "DELETE").status == 404
    for path in ("/v1/jobs", f"/v1/jobs/{'0' * 32}"):
        assert get(locked, path, token).code == (403, "bound_key")
    found = post(locked, "/v1/search", {"event_id": event.event_id}, bearer)
    assert found.code == (404, "event_not_found")
    for asked in ({"video_ids": [other]}, {"video_ids": [other, "x"]}, {"folder": "/x"}):
        found = post(locked, "/v1/search", {"text": "x", "filter": asked}, bearer)
        assert json.loads(found.body)["data"] == []
        ask = {
            "model": "marc", "marc": {"filter": asked},
            "messages": [{"role": "user", "content": f"What is in {other}?"}],
        }  # fmt: skip
        assert post(locked, "/v1/chat/completions", ask, bearer).status == 422
    said = {
        post(locked, "/v1/chat/completions", ask | {"marc": {"filter": asked}}, bearer).body
        for asked in (
            {"video_ids": [other]}, {"video_ids": ["x"]}, {"camera": "x"}, {"tags": ["x"]},
            {"folder": "/x"},
        )
    }  # fmt: skip
    assert len(said) == 1  # nothing of what there is beyond the bound
    del ask["marc"]
    answer = json.loads(post(locked, "/v1/chat/completions", ask, bearer).body)
    assert {c["video_id"] for c in answer["marc"]["citations"]} == {mine}
    listed = json.loads(get(locked, "/v1/videos?limit=100", token).body)
    assert [v["video_id"] for v in listed["data"]] == [mine]
    link = listed["data"][0]["media_url"]
    assert get(locked, link).status == 200
    assert get(locked, link.replace(mine, other)).code == (401, "invalid_link")


# Headers


@pytest.mark.parametrize(
    "evil", [b"a\r\nSet-Cookie: x=1", b"a\nSet-Cookie: x=1", b"\r\n\r\n<html>"]
)
def test_no_header_can_be_smuggled_into_an_answer(
    app: FastAPI, evil: bytes, video_ids: list[str]
) -> None:
    quoted = "".join(f"%{byte:02x}" for byte in evil)
    requests: list[tuple[str, str, bytes]] = [
        ("GET", "/health", b""),
        ("GET", f"/v1/videos/{quoted}/media", b""),
        ("GET", f"/v1/videos/{video_ids[0]}/media", b""),
        ("GET", f"/v1/models/{quoted}", b""),
        ("GET", f"/{quoted}", b""),
        ("POST", f"/v1/uploads?name={quoted}.mp4", b"x"),
        ("POST", "/v1/search", json.dumps({"text": evil.decode()}).encode()),
    ]
    for method, path, body in requests:
        for name in (b"x-request-id", b"range", b"if-none-match", b"referer", b"accept"):
            found = asyncio.run(raw(app, method, path, headers=[(name, evil)], body=body))
            assert found.status in (200, 202, 400, 404, 416, 422), (method, path)
            names = [key.lower() for key, _ in found.headers]
            assert b"set-cookie" not in names
            assert not any(
                b"\r" in part or b"\n" in part for pair in found.headers for part in pair
            )
