"""Videos as browsers play them: parts by Range, copies of what they do not play."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from marc_core.video.source import local_source
from serving.config import MediaConfig
from serving.errors import ApiError
from serving.media import Media, Playable


def write(path: Path, codec: str, pixels: str = "yuv420p", frames: int = 12) -> Path:
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=6)
        stream.width, stream.height, stream.pix_fmt = 66, 50, pixels
        for i in range(frames):
            picture = np.full((50, 66, 3), 20 * i, np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            out.mux(stream.encode(frame.reformat(format=pixels)))
        out.mux(stream.encode(None))
    return path


def row_of(path: Path) -> dict[str, Any]:
    source = local_source(str(path))
    return {n: getattr(source, n) for n in ("video_id", "uri", "size_bytes", "version")}


def streams_of(found: Playable) -> tuple[str, str, float]:
    with av.open(found.path) as container:
        (video,) = container.streams.video
        duration_s = float(video.duration * video.time_base)
        return container.format.name, video.codec_context.name, duration_s


@pytest.fixture
def media(tmp_path: Path) -> Iterator[Media]:
    found = Media(MediaConfig(cache_folder=str(tmp_path / "cache")), {})
    yield found
    found.close()


@pytest.mark.parametrize(
    ("name", "codec", "pixels", "as_it_is", "codec_after"),
    [
        ("a.mp4", "libx264", "yuv420p", True, "h264"),
        ("a.mkv", "libx264", "yuv420p", False, "h264"),  # packets copied
        ("a.avi", "mpeg4", "yuv420p", False, "h264"),  # coded anew
        ("b.mp4", "libx264", "yuv444p", False, "h264"),  # a profile that browsers lack
    ],
)
def test_what_browsers_play_is_sent_as_it_is_and_the_rest_is_made(
    media: Media, tmp_path: Path, name: str, codec: str, pixels: str, as_it_is: bool,
    codec_after: str,
) -> None:  # fmt: skip
    path = write(tmp_path / name, codec, pixels)
    found = asyncio.run(media.playable(row_of(path)))
    assert (found.path == str(path)) is as_it_is
    assert found.type == "video/mp4"
    container, codec_found, duration_s = streams_of(found)
    assert "mp4" in container
    assert codec_found == codec_after
    assert duration_s == pytest.approx(2.0, abs=0.4)
    assert asyncio.run(media.playable(row_of(path))) == found


def test_requests_for_one_video_share_its_copy_and_others_wait(
    media: Media, tmp_path: Path
) -> None:
    one, other = write(tmp_path / "a.mkv", "libx264"), write(tmp_path / "b.mkv", "libx264")

    async def run() -> list[Any]:
        rows = [row_of(one), row_of(one), row_of(other)]
        calls = [asyncio.create_task(media.playable(row)) for row in rows]
        return await asyncio.gather(*calls, return_exceptions=True)

    first, second, refused = asyncio.run(run())
    assert first == second
    assert isinstance(refused, ApiError)
    assert (refused.status, refused.retry_after_s) == (503, 2)


@pytest.mark.parametrize("what", ["its row", "its file"])
def test_a_copy_that_is_made_while_its_video_is_deleted_is_not_kept(
    media: Media, tmp_path: Path, what: str
) -> None:
    path = write(tmp_path / "a.mkv", "libx264")
    row = row_of(path)

    def forget() -> None:
        if what == "its row":
            media.forget(row["video_id"])
        else:
            path.unlink()

    async def run() -> Any:
        making = asyncio.create_task(media.playable(row))
        while not media._under_way:
            await asyncio.sleep(0.01)
        forget()
        return (await asyncio.gather(making, return_exceptions=True))[0]

    refused = asyncio.run(run())
    assert isinstance(refused, ApiError)
    assert (refused.status, refused.code) == (404, "media_not_found")
    assert list(media.folder.iterdir()) == []
    if what == "its row":  # one that is registered again is played again
        assert Path(asyncio.run(media.playable(row)).path).exists()


def test_what_was_played_longest_ago_goes_first(tmp_path: Path) -> None:
    media = Media(MediaConfig(cache_folder=str(tmp_path / "cache"), cache_bytes=1), {})
    found = [
        asyncio.run(media.playable(row_of(write(tmp_path / f"{i}.mkv", "libx264", frames=6 + i))))
        for i in range(2)
    ]
    assert [Path(f.path).exists() for f in found] == [False, True]


def test_a_file_that_is_gone_changed_or_no_video(media: Media, tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", "libx264")
    row = row_of(path)
    text = tmp_path / "page.mp4"
    text.write_text("<html><script>alert(1)</script>")
    for bad, status in ((row | {"size_bytes": 7}, 404), (row_of(text), 415)):
        with pytest.raises(ApiError) as caught:
            asyncio.run(media.playable(bad))
        assert caught.value.status == status
    path.unlink()
    with pytest.raises(ApiError, match="no longer exists"):
        asyncio.run(media.playable(row))


def test_a_file_that_goes_just_before_it_is_sent_is_a_404(
    app: FastAPI, client: TestClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async def gone(row: dict[str, Any]) -> Playable:
        return Playable(str(tmp_path / f"{row['video_id']}.mp4"), "video/mp4")

    monkeypatch.setattr(app.state.gateway.media, "playable", gone)
    video = client.get("/v1/videos").json()["data"][0]
    for headers in ({}, {"Range": "bytes=0-9"}):
        found = client.get(video["media_url"], headers=headers)
        assert (found.status_code, found.json()["error"]["code"]) == (404, "media_not_found")


def test_parts_of_a_video(client: TestClient) -> None:
    video = client.get("/v1/videos").json()["data"][0]
    whole = client.get(video["media_url"])
    assert whole.headers["content-type"] == "video/mp4"
    assert len(whole.content) == video["size_bytes"]
    part = client.get(video["media_url"], headers={"Range": "bytes=10-29"})
    assert (part.status_code, part.content) == (206, whole.content[10:30])
    assert part.headers["content-range"] == f"bytes 10-29/{len(whole.content)}"
    end = client.get(video["media_url"], headers={"Range": "bytes=-5"})
    assert end.content == whole.content[-5:]
    beyond = client.get(video["media_url"], headers={"Range": f"bytes={10**12}-"})
    assert beyond.status_code == 416
    assert beyond.json()["error"]["code"] == "range_not_satisfiable"
    assert beyond.headers["content-range"] == f"bytes */{len(whole.content)}"
    odd = client.get(video["media_url"], headers={"Range": "bytes=x-y"})
    assert (odd.status_code, odd.json()["error"]["code"]) == (400, "invalid_range")
    assert client.head(video["media_url"]).headers["accept-ranges"] == "bytes"
    with av.open(io.BytesIO(whole.content)) as container:
        assert container.streams.video
    assert client.get("/v1/videos/no/media").status_code == 404
