"""Parts of a file: each decoded by itself, all together what one pass gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.odd_media import shift_copy, write_numbers
from marc_core.config import VideoConfig
from marc_core.video import decode
from marc_core.video.parts import (
    ALIGN,
    ZONE_S,
    Packets,
    Part,
    doubt,
    first_decoded,
    parts_of,
    read_packets,
    seams,
)

SIZE, FPS = (64, 48), 25
CONFIG = VideoConfig(sample_fps=2.0)
FAST = {"preset": "ultrafast", "g": "50", "crf": "20"}
OPEN = {"preset": "veryfast", "g": "40", "bf": "3", "x264-params": "open-gop=1:scenecut=0"}
B_FRAMES = {"preset": "veryfast", "g": "60", "bf": "5", "x264-params": "b-pyramid=normal"}
X265 = {"preset": "ultrafast", "x265-params": "open-gop=1:keyint=40:bframes=3:log-level=none"}
MPEG2 = {"g": "20", "bf": "2"}
VP8 = {"g": "50", "deadline": "realtime", "cpu-used": "8"}
REFRESH = {"preset": "veryfast", "g": "50", "x264-params": "intra-refresh=1:bframes=0"}


def packets_of(times_s, keys=None, ticks=None, container="mp4") -> Packets:
    times_s = np.asarray(times_s, np.float64)
    return Packets(
        times_s=times_s,
        decode_ticks=np.arange(len(times_s)) if ticks is None else np.asarray(ticks, np.float64),
        container=container,
        is_key=np.ones(len(times_s), bool) if keys is None else np.asarray(keys, bool),
    )


@pytest.mark.parametrize(
    ("packets", "why"),
    [
        (packets_of([0, 2, 1, 3]), None),
        (packets_of([0, 1, 100, 101]), None),  # a jump of the clock is no doubt
        (packets_of([0, 1, 1, 2]), "twice"),
        (packets_of([0, np.nan, 1, 2]), "without a time stamp"),
        (packets_of([0, 1, 2, 3], ticks=[0, 1, 0, 2]), "go back"),
        (packets_of([*range(1, 41), 0]), "16 places"),
        (packets_of([]), "no packets"),
        (packets_of([0, 1], container="mpeg"), "now and then"),
    ],
)
def test_what_cannot_be_sought_shows_in_the_packets(packets, why):
    found = doubt(packets)
    assert found is None if why is None else why in found


@settings(max_examples=100, deadline=None)
@given(
    st.integers(1, 3000), st.integers(1, 400), st.sampled_from([5.0, 30.0, 1000.0]),
    st.sampled_from([0.04, 1.0]), st.booleans(), st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_parts_tile_the_frames_and_see_enough_around_them(F, every, part_s, step_s, jump, seed):
    rng = np.random.default_rng(seed)
    times_s = -2.0 + np.cumsum(rng.uniform(0.5, 1.5, F) * step_s)
    if jump:
        times_s[F // 2 :] += 5000.0
    keys = np.arange(F) % every == 0
    seams_s = seams(packets_of(times_s, keys), part_s)
    assert set(seams_s) <= set(times_s[keys])
    parts = parts_of(times_s, seams_s)
    assert [p.number for p in parts] == list(range(len(seams_s) + 1))

    def frame(time_s, default):
        return default if time_s is None else int(np.searchsorted(times_s, time_s))

    end = 0
    for part in parts:
        begin, first = frame(part.begin_s, 0), frame(part.from_s, 0)
        zone, zone_end = np.searchsorted(times_s, part.seen_s)
        assert first == end
        end, stop = frame(part.to_s, F), frame(part.stop_s, F)
        assert begin <= zone <= first < end <= zone_end <= stop
        assert begin % ALIGN == 0
        assert begin == 0 or zone - begin >= 75
        assert stop == F or stop - zone_end >= 75
        assert times_s[first] - times_s[zone] <= ZONE_S
        assert Part.from_json(part.to_json()) == part
    assert end == F
    shown_s = np.diff(times_s).clip(max=10.0).sum()
    assert len(parts) <= max(1, np.ceil(shown_s / part_s))


def test_context_begins_where_windows_and_chunks_of_one_pass_begin():
    assert [first_decoded(f) for f in (0, 74, 100, 175, 200, 999)] == [0, 0, 0, 0, 100, 800]


def _ts(path: Path, **options) -> Path:
    return write_numbers(path, count=520, fps=FPS, size=SIZE, **options)


def _uneven(path: Path) -> Path:
    steps = np.random.default_rng(0).integers(20, 60, 520)
    times_ms = np.cumsum(steps).tolist()
    return write_numbers(path, count=520, fps=FPS, size=SIZE, times_ms=times_ms, codec_options=FAST)


def _shifted(path: Path) -> Path:
    plain = _ts(path.with_name("plain.mp4"), codec_options=B_FRAMES)
    return shift_copy(plain, path, -3.0, {"use_editlist": "0"})


FILES = {
    "mp4": lambda folder: _ts(folder / "a.mp4", codec_options=FAST),
    "mkv-b-frames": lambda folder: _ts(folder / "a.mkv", codec_options=B_FRAMES),
    "ts": lambda folder: _ts(folder / "a.ts", codec_options=B_FRAMES),
    "ts-open-gop": lambda folder: _ts(folder / "a.ts", codec_options=OPEN),
    "mp4-open-gop": lambda folder: _ts(folder / "a.mp4", codec_options=OPEN),
    "mkv-open-gop-hevc": lambda folder: _ts(folder / "a.mkv", codec="libx265", codec_options=X265),
    "ts-intra-refresh": lambda folder: _ts(folder / "a.ts", codec_options=REFRESH),
    "mkv-uneven": lambda folder: _uneven(folder / "a.mkv"),
    "mp4-negative-start": lambda folder: _shifted(folder / "a.mp4"),
    "ts-mpeg2": lambda folder: _ts(folder / "a.ts", codec="mpeg2video", codec_options=MPEG2),
    "mp4-fragments": lambda folder: _ts(
        folder / "a.mp4", codec_options=B_FRAMES,
        container_options={"movflags": "frag_keyframe+empty_moov"},
    ),
    "webm": lambda folder: _ts(folder / "a.webm", codec="libvpx", codec_options=VP8),
    "flv": lambda folder: _ts(folder / "a.flv", codec_options=FAST),
}  # fmt: skip
DEFAULT = {"mp4", "ts-open-gop", "mkv-uneven"}
"""Files of the default tier."""


def read(path, part=None):
    with decode(path, CONFIG, part=part) as decoding:
        chunks = list(decoding)
    times_s = np.concatenate([c.times_s for c in chunks])
    frames = np.concatenate([c.shot_frames for c in chunks])
    samples = {
        float(c.times_s[i]): frame
        for c in chunks
        for i, frame in zip(c.sampled_index, c.sampled_frames, strict=True)
    }
    return times_s, frames, samples, decoding.summary


@pytest.mark.parametrize(
    "name", [n if n in DEFAULT else pytest.param(n, marks=pytest.mark.slow) for n in FILES]
)
def test_parts_give_what_one_pass_gives(tmp_path, name):
    path = FILES[name](tmp_path)
    packets = read_packets(path)
    assert doubt(packets) is None
    times_s, frames, samples, summary = read(path)
    np.testing.assert_array_equal(np.sort(packets.times_s), times_s)
    seams_s = seams(packets, 5.0)
    assert len(seams_s) >= 2
    rng = np.random.default_rng(0)
    anywhere = np.sort(rng.choice(times_s[50:-50], 3, replace=False))
    for at_s in (seams_s, anywhere):
        for part in parts_of(times_s, at_s):
            own_s, own, own_samples, own_summary = read(path, part)
            begin = 0 if part.begin_s is None else np.searchsorted(times_s, part.begin_s)
            stop = len(times_s) if part.stop_s is None else np.searchsorted(times_s, part.stop_s)
            np.testing.assert_array_equal(own_s, times_s[begin:stop])
            np.testing.assert_array_equal(own, frames[begin:stop])
            inside = [t for t in samples if own_s[int(begin > 0)] <= t <= own_s[-1]]
            assert list(own_samples) == inside
            for time_s in inside:
                np.testing.assert_array_equal(own_samples[time_s], samples[time_s])
            if part.stop_s is None:
                assert own_summary.end_s == summary.end_s
