"""Files with several video streams: each can be reached, and none is left out without a word."""

from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

from marc_core.config import VideoConfig
from marc_core.errors import EmptyVideoError, UnreadableVideoError
from marc_core.video import IsolatedDecoder, decode, probe, read_frames

CONFIG = VideoConfig()
EVERY = VideoConfig(streams="all")
RED, BLUE, GREEN = (220, 30, 30), (30, 30, 220), (30, 200, 30)


def write_streams(path: Path, *streams: tuple[tuple[int, int, int], int, int], cover=False) -> Path:
    """Write one stream of 2 s for each (colour, frames a second, height); the first the default."""
    with av.open(str(path), "w") as out:
        made = []
        for colour, fps, height in streams:
            stream = out.add_stream("libx264", rate=fps)
            stream.width, stream.height, stream.pix_fmt = 96, height, "yuv420p"
            made.append((stream, np.full((height, 96, 3), colour, np.uint8)))
        if cover:
            picture = out.add_stream("mjpeg", rate=1)
            picture.width, picture.height, picture.pix_fmt = 320, 320, "yuvj420p"
            picture.disposition = av.stream.Disposition.attached_pic
            image = av.VideoFrame.from_ndarray(np.full((320, 320, 3), GREEN, np.uint8))
            out.mux(picture.encode(image.reformat(format="yuvj420p")))
            out.mux(picture.encode())
        for stream, image in made:
            for _ in range(2 * int(stream.average_rate)):
                out.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            out.mux(stream.encode())
    return path


def read(path: Path, config: VideoConfig = CONFIG, stream: int = 0):
    """Return (colour of the sampled frames, number of frames, summary)."""
    with decode(path, config, stream=stream) as decoding:
        chunks = list(decoding)
    frames = np.concatenate([c.sampled_frames for c in chunks if len(c.sampled_frames)])
    return frames.mean((0, 1, 2)), sum(len(c.times_s) for c in chunks), decoding.summary


@pytest.mark.parametrize("name", ["cameras.mp4", "cameras.mkv", "cameras.ts", "cameras.mov"])
def test_every_stream_is_reached_with_its_own_frames_and_rate(tmp_path: Path, name):
    path = write_streams(tmp_path / name, (RED, 10, 64), (BLUE, 4, 48), (GREEN, 5, 32))
    sizes = set()
    colours = []
    for stream in range(3):
        colour, count, summary = read(path, EVERY, stream)
        colours.append(colour)
        sizes.add((count, summary.info.height))
        assert summary.info.num_streams == 3
        assert summary.warnings == ()
        (again,) = read_frames(path, [summary.start_s], EVERY, stream=stream)
        np.testing.assert_allclose(again.mean((0, 1)), colour, atol=1)
    assert sizes == {(20, 64), (8, 48), (10, 32)}
    for wanted in (RED, BLUE, GREEN):
        assert sum(np.abs(c - wanted).max() < 12 for c in colours) == 1


@pytest.mark.parametrize("backend", ["pyav", "decord"])
def test_streams_that_are_left_out_are_said(tmp_path: Path, backend):
    path = write_streams(tmp_path / "two.mp4", (RED, 4, 64), (BLUE, 4, 64))
    colour, _, summary = read(path, replace(CONFIG, backend=backend))
    np.testing.assert_allclose(colour, RED, atol=12)
    assert summary.warnings == (
        "It has 1 more video stream: index with video.streams=all to take each.",
    )
    assert read(write_streams(tmp_path / "one.mp4", (RED, 4, 64)))[2].warnings == ()


def test_a_cover_picture_is_no_stream(tmp_path: Path):
    path = write_streams(tmp_path / "song.mp4", (RED, 4, 64), cover=True)
    with av.open(str(path)) as media:
        assert len(media.streams.video) == 2
    colour, count, summary = read(path)
    np.testing.assert_allclose(colour, RED, atol=12)
    assert (count, summary.info.num_streams, summary.warnings) == (8, 1, ())
    only = write_streams(tmp_path / "cover.mp4", cover=True)
    with pytest.raises(UnreadableVideoError, match="only a cover picture"):
        probe(only, CONFIG)


def test_a_broken_first_stream_names_the_others(tmp_path: Path):
    path = write_streams(tmp_path / "clip.mp4", (RED, 10, 64), (BLUE, 4, 48))
    damaged = tmp_path / "damaged.mkv"
    with av.open(str(path)) as media, av.open(str(damaged), "w") as out:
        copies = [out.add_stream_from_template(s) for s in media.streams.video]
        for packet in media.demux():
            if packet.dts is None:
                continue
            index = packet.stream.index
            if index == 0:
                packet.update(bytes(packet.size))
            packet.stream = copies[index]
            out.mux(packet)
    with pytest.raises(EmptyVideoError, match=r"1 more video stream: index with") as caught:
        probe(damaged, CONFIG)
    assert caught.value.num_streams == 2
    colour, count, _ = read(damaged, EVERY, 1)
    np.testing.assert_allclose(colour, BLUE, atol=12)
    assert count == 8


def test_a_number_without_a_stream_is_refused(tmp_path: Path):
    path = write_streams(tmp_path / "two.mp4", (RED, 4, 64), (BLUE, 4, 64))
    with pytest.raises(UnreadableVideoError, match=r"has 2 video streams, no number 2"):
        probe(path, EVERY, stream=2)


def test_streams_are_reached_through_the_child(tmp_path: Path):
    path = write_streams(tmp_path / "two.mp4", (RED, 4, 64), (BLUE, 4, 64))
    with IsolatedDecoder(EVERY) as decoder:
        for number, colour in enumerate((RED, BLUE)):
            with decoder.open(path, stream=number) as stream:
                frames = [f for chunk in stream for f in chunk.sampled_frames]
            np.testing.assert_allclose(np.mean(frames, (0, 1, 2)), colour, atol=12)
            (frame,) = decoder.read_frames(path, [0.0], stream=number)
            np.testing.assert_allclose(frame.mean((0, 1)), colour, atol=12)
        with pytest.raises(UnreadableVideoError) as caught:
            decoder.open(path, stream=5)
        assert caught.value.num_streams == 2
        with decoder.open(path) as stream:
            list(stream)
        assert stream.summary.info.num_streams == 2
