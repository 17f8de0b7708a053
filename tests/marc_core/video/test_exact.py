"""Exact frames where the clock of a seekable file steps back: stored times are not raw stamps."""

from __future__ import annotations

import struct
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.odd_media import write_numbers
from benchmarks.odd_times import colour_of, scenes, write_stamped
from marc_core.config import EventConfig, VideoConfig
from marc_core.indexing import decode_video
from marc_core.video import IsolatedDecoder, admit_decord, decode, probe, read_frames
from marc_core.video.clock import repaired_by
from marc_core.video.stamps import keeps_order, stamps_are_times
from tests.marc_core.memories import PictureChange

CONFIG = VideoConfig(sample_fps=2.0)


def sampled(path: Path, config: VideoConfig = CONFIG):
    """Return (sampled times, sampled frames, summary)."""
    with decode(path, config) as decoding:
        chunks = list(decoding)
    times_s = np.concatenate([c.times_s[c.sampled_index] for c in chunks]).tolist()
    return times_s, [f for c in chunks for f in c.sampled_frames], decoding.summary


def stepping_back(path: Path, back_ms: int) -> Path:
    """Write ten seconds from 20 s on whose clock steps back after six of them."""
    colours = scenes()
    stamps = [20_000 + 40 * i - back_ms * (i >= 150) for i in range(len(colours))]
    return write_stamped(path, colours, stamps, duration_s=30.0)


def shift_fragments(path: Path, back_s: float, first: int) -> Path:
    """Set the clock of a fragmented mp4 back from fragment number `first` on."""
    data = bytearray(path.read_bytes())
    mdhd = data.find(b"mdhd")
    ticks = round(back_s * struct.unpack_from(">I", data, mdhd + 16)[0])
    at, number = data.find(b"tfdt"), 0
    while at > 0:
        assert data[at + 4] == 1, "a decode time of 64 bits"
        (time,) = struct.unpack_from(">Q", data, at + 8)
        if number >= first:
            struct.pack_into(">Q", data, at + 8, time - ticks)
        at, number = data.find(b"tfdt", at + 4), number + 1
    assert number > first
    path.write_bytes(data)
    return path


def check_one_by_one(path: Path, config: VideoConfig = CONFIG, repaired: bool | None = None):
    times_s, frames, summary = sampled(path, config)
    assert repaired_by(summary.warnings)
    for time_s, frame in zip(times_s, frames, strict=True):
        (again,) = read_frames(path, [time_s], config, repaired=repaired)
        np.testing.assert_array_equal(again, frame, f"another frame at {time_s} s")


@pytest.mark.parametrize("repaired", [None, True], ids=["unknown", "known"])
@pytest.mark.parametrize("back_ms", [1990, 2000])
def test_a_clock_that_steps_back_shows_no_other_shot(tmp_path: Path, back_ms, repaired):
    path = stepping_back(tmp_path / "clip.mkv", back_ms)
    check_one_by_one(path, repaired=repaired)


@pytest.mark.parametrize("order", [{"bf": "0"}, {"bf": "2"}], ids=["in order", "reordered"])
@pytest.mark.parametrize("back_s", [3.0, 8.0])
def test_fragments_whose_clock_steps_back(tmp_path: Path, back_s, order):
    path = write_numbers(
        tmp_path / "clip.mp4",
        count=200,
        codec_options={"g": "10", **order},
        container_options={"movflags": "frag_keyframe"},
    )
    check_one_by_one(shift_fragments(path, back_s, first=10), VideoConfig(sample_fps=0.7))


def test_an_event_shows_its_own_shot_behind_a_seam(tmp_path: Path):
    """A shot between two samples gets a frame of its own, by an exact read."""
    colours = [*["red"] * 205, *["white"] * 40, *["blue"] * 150]
    stamps = [20_000 + 40 * i - 3000 * (i >= 150) for i in range(len(colours))]
    path = write_stamped(tmp_path / "clip.mkv", colours, stamps, duration_s=35.0)
    events = EventConfig(change_points=False, min_event_s=0.5)
    with IsolatedDecoder(VideoConfig(sample_fps=0.2)) as decoder:
        decoded = decode_video(str(path), decoder, PictureChange(events))
        times_s = decoded.times_s[decoded.sampled_index].tolist()
        again = decoder.read_frames(path, times_s)
    shown = [colour_of(frame) for frame in decoded.sampled_frames]
    assert shown == [colours[i] for i in decoded.sampled_index]
    assert "white" in shown
    np.testing.assert_array_equal(again, decoded.sampled_frames)


@pytest.mark.parametrize("suffix", ["mkv", "mp4"])
@pytest.mark.parametrize("order", [{"bf": "0"}, {"bf": "3", "b-pyramid": "strict"}])
def test_a_sound_file_is_sought_in(tmp_path: Path, suffix, order):
    """Its packets are looked through only where nobody knows that its clock is sound."""
    path = write_numbers(tmp_path / f"a.{suffix}", count=250, codec_options={"g": "10", **order})
    *_, (time_s, last) = zip(*sampled(path)[:2], strict=True)
    assert stamps_are_times(path)
    for repaired, least, most in ((False, 1, 60), (None, 251, 320), (True, 240, 250)):
        ticks: list[None] = []
        (frame,) = read_frames(
            path, [time_s], CONFIG, repaired=repaired, on_frame=partial(ticks.append, None)
        )
        np.testing.assert_array_equal(frame, last)
        assert least <= len(ticks) <= most


@given(st.integers(0, 4), st.integers(0, 2**32 - 1), st.data())
def test_pictures_put_into_order_keep_it_unless_the_clock_steps_back(depth, seed, data):
    rng = np.random.default_rng(seed)
    shown = np.cumsum(rng.integers(1, 50, 60)).tolist()
    coded = decoding_order(shown, depth, rng)
    assert keeps_order(coded, depth)
    at = data.draw(st.integers(depth + 1, 55))
    by = data.draw(st.integers(1, 4000))
    first = max(i for i, stamp in enumerate(coded) if stamp <= shown[at])
    back = shown[at] - shown[at - depth - 1] + by
    assert not keeps_order([*coded[:first], *(stamp - back for stamp in coded[first:])], depth)


def decoding_order(shown: list[int], depth: int, rng) -> list[int]:
    """Return stamps in an order that a decoder which holds `depth` pictures back puts right."""
    coded, group = [], depth + 1
    for first in range(0, len(shown), group):
        *before, anchor = shown[first : first + group]
        coded += [anchor, *before]
    return coded


@pytest.mark.parametrize("stamps", [[0, 1, None, 3], [0, 1, 1, 2], [0, 5, 1, 2]])
def test_missing_shared_and_single_wrong_stamps_are_not_times(stamps):
    assert not keeps_order(stamps, 0)


def test_decord_does_not_take_a_clock_that_steps_back(tmp_path: Path):
    """Stamps between the earlier ones: none repeats, and put into order they look sound."""
    stamps = [40 * i - 1990 * (i >= 150) for i in range(250)]
    path = write_stamped(tmp_path / "clip.mkv", scenes(), stamps)
    assert admit_decord(path, probe(path, CONFIG)) == "timestamps are out of line"
