from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

from benchmarks.odd_media import read_number, write_numbers
from marc_core.config import VideoConfig
from marc_core.errors import EmptyVideoError, UnreadableVideoError, VideoLimitError
from marc_core.video import decode, probe, read_frames
from marc_core.video.pyav import FORMATS

CONFIG = VideoConfig(chunk_frames=7)

SOUND = [
    "h264.mp4", "h264_open_gop.mp4", "h264_interlaced.mp4", "h264_10bit.mkv", "h264.ts",
    "h264_fragmented.mp4", "hevc.mp4", "vp9.webm", "av1.mkv", "mpeg4.avi",
    "mpeg2_interlaced.mpg", "mjpeg.avi", "wmv2.wmv", "flv1.flv", "prores.mov", "animation.gif",
    "elementary.mp4", "vfr.mp4", "gap.mkv", "delayed_start.mp4", "negative_start.ts",
    "rotated_90.mov", "rotated_180.mov", "rotated_270.mov", "odd_size.mkv", "anamorphic.mp4",
    "times_missing.mkv",
]  # fmt: skip


def read(path, config=CONFIG):
    """Decode all; return (times, shots, sampled times, sampled frames, summary)."""
    with decode(path, config) as decoding:
        chunks = list(decoding)
        summary = decoding.summary
    times = np.concatenate([c.times_s for c in chunks])
    shots = np.concatenate([c.shot_frames for c in chunks])
    sampled = np.concatenate([c.times_s[c.sampled_index] for c in chunks])
    frames = [frame for c in chunks for frame in c.sampled_frames]
    assert len(times) == len(shots) == summary.num_frames
    assert shots.shape[1:] == (27, 48, 3)
    assert len(frames) == len(sampled)
    assert np.all(np.diff(times) > 0)
    assert summary.start_s == times[0]
    assert summary.end_s > times[-1]
    return times, shots, sampled, frames, summary


@pytest.mark.parametrize("name", SOUND)
def test_every_frame_comes_once_upright_in_order(odd: Path, name):
    times, shots, sampled, frames, summary = read(odd / name)
    assert [read_number(shot) for shot in shots] == list(range(30))
    assert summary.num_errors == 0
    where = np.searchsorted(times, sampled)
    assert [read_number(frame) for frame in frames] == where.tolist()
    assert sampled[0] == times[0]


@pytest.mark.parametrize(
    ("name", "start_s"), [("h264.mp4", 0.0), ("delayed_start.mp4", 1.5), ("negative_start.ts", -1)]
)
def test_times_are_the_source_s_own(odd: Path, name, start_s):
    times, _, sampled, _, summary = read(odd / name)
    np.testing.assert_allclose(times, start_s + np.arange(30) / 10, atol=2e-5)
    np.testing.assert_allclose(sampled, start_s + np.arange(3), atol=2e-5)
    assert summary.end_s == pytest.approx(start_s + 3.0, abs=2e-5)


def test_uneven_times(odd: Path):
    times, _, sampled, _, _ = read(odd / "vfr.mp4")
    steps = [40, 40, 200, 33, 500]
    expected = np.cumsum([0, *(steps[i % 5] for i in range(29))]) / 1000
    np.testing.assert_allclose(times, expected, atol=1e-3)
    assert len(sampled) == 5


@pytest.mark.parametrize(
    ("name", "size", "rotation"),
    [("rotated_90.mov", (96, 160), 270), ("rotated_180.mov", (160, 96), 180),
     ("rotated_270.mov", (96, 160), 90)],
)  # fmt: skip
def test_rotation(odd: Path, name, size, rotation):
    info = probe(odd / name, CONFIG)
    assert (info.height, info.width, info.rotation_deg) == (*size[::-1], rotation)
    frames = read(odd / name)[3]
    assert frames[0].shape == (size[1], size[0], 3)


def test_pixels_are_made_square(odd: Path):
    assert read(odd / "anamorphic.mp4")[3][0].shape == (48, 160, 3)


def test_a_larger_picture_in_mid_stream_keeps_the_first_size(odd: Path):
    _, shots, _, frames, summary = read(odd / "size_change.ts")
    assert [read_number(s) for s in shots] == list(range(60))
    assert {f.shape for f in frames} == {(96, 160, 3)}
    assert (summary.info.width, summary.info.height) == (160, 96)


def test_joined_streams_go_on_in_time(odd: Path):
    times, shots, _, _, _ = read(odd / "time_restart.ts")
    assert [read_number(s) for s in shots] == [*range(30), *range(30)]
    np.testing.assert_allclose(np.diff(times), 0.1, atol=0.02)


def test_edit_lists_cut(odd: Path):
    times, shots, _, _, _ = read(odd / "edit_list.mp4")
    assert [read_number(s) for s in shots] == list(range(10, 30))
    np.testing.assert_allclose(times, np.arange(20) / 10, atol=1e-6)


def test_damage_is_counted_and_skipped(odd: Path):
    _, shots, _, _, summary = read(odd / "damaged.mp4")
    assert summary.num_errors > 0
    assert len(shots) + summary.num_errors >= 29
    assert read_number(shots[0]) == 0


@pytest.mark.parametrize("name", ["half.ts", "half.webm"])
def test_the_readable_half_is_kept(odd: Path, name):
    _, shots, _, _, _ = read(odd / name)
    numbers = [read_number(s) for s in shots]
    assert 5 <= len(numbers) <= 20
    assert numbers[:-1] == list(range(len(numbers) - 1))


def test_one_frame(odd: Path):
    _, shots, _, frames, summary = read(odd / "one_frame.mp4")
    assert (len(shots), len(frames)) == (1, 1)
    assert summary.end_s == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("empty.mp4", UnreadableVideoError, "empty"),
        ("text.mp4", UnreadableVideoError, "not a video"),
        ("audio_only.mp4", UnreadableVideoError, "streams: audio"),
        ("half_index_at_end.mp4", UnreadableVideoError, "cut off"),
        ("half_index_at_front.mp4", EmptyVideoError, "Not one frame"),
        ("above_8k.mkv", VideoLimitError, "max_pixels"),
        ("missing.mp4", UnreadableVideoError, "not a file"),
        ("playlist.mp4", UnreadableVideoError, "not a video"),
    ],
)
def test_bad_files_say_why(odd: Path, name, kind, words):
    with pytest.raises(kind, match=words):
        probe(odd / name, CONFIG)


def test_a_playlist_would_open_another_file_without_our_list(odd: Path):
    """The rule behind FORMATS: unrestricted, the same bytes read a neighbouring file."""
    assert "hls" not in FORMATS
    with av.open(
        str(odd / "playlist.mp4"), format="hls", options={"extension_picky": "0"}
    ) as media:
        assert media.streams.video[0].width == 160


def test_8k_fits_the_default_limits(odd: Path):
    _, shots, _, frames, summary = read(odd / "8k.mp4")
    assert [read_number(s) for s in shots] == [0, 1, 2]
    assert (summary.info.width, frames[0].shape) == (7680, (236, 422, 3))


def test_the_duration_limit_counts_what_is_shown(odd: Path):
    short = replace(CONFIG, max_duration_s=2.0)
    assert probe(odd / "h264.mp4", short).duration_s == 3.0
    with pytest.raises(VideoLimitError, match="goes on"):
        read(odd / "h264.mp4", short)
    assert read(odd / "gap.mkv", replace(CONFIG, max_duration_s=3.0))[4].num_frames == 30


def test_pixel_limit_holds_in_mid_stream(odd: Path, tmp_path: Path):
    large = write_numbers(tmp_path / "large.ts", size=(320, 192))
    joined = tmp_path / "joined.ts"
    joined.write_bytes((odd / "h264.ts").read_bytes() + large.read_bytes())
    with pytest.raises(VideoLimitError):
        read(joined, replace(CONFIG, max_pixels=160 * 96))


def test_sampled_frames_are_shrunk_with_their_shape(odd: Path):
    frames = read(odd / "h264.mp4", replace(CONFIG, frame_max_pixels=4000))[3]
    assert frames[0].shape == (48, 80, 3)
    assert [read_number(f) for f in frames] == [0, 10, 20]


@pytest.mark.parametrize("chunk_frames", [1, 30, 256])
def test_chunks_do_not_change_the_frames(odd: Path, chunk_frames):
    times, shots, _, frames, _ = read(odd / "h264.mp4")
    again = read(odd / "h264.mp4", replace(CONFIG, chunk_frames=chunk_frames))
    np.testing.assert_array_equal(times, again[0])
    np.testing.assert_array_equal(shots, again[1])
    np.testing.assert_array_equal(frames, again[3])


@pytest.mark.parametrize("name", [*SOUND, "damaged.mp4", "size_change.ts", "time_restart.ts"])
def test_exact_frames_equal_the_sampled_ones(odd: Path, name):
    config = replace(CONFIG, sample_fps=3.0)
    _, _, sampled, frames, _ = read(odd / name, config)
    order = np.random.default_rng(0).permutation(len(sampled))[:4]
    got = read_frames(odd / name, sampled[order].tolist(), config)
    for position, frame in zip(order, got, strict=True):
        np.testing.assert_array_equal(frame, frames[position])


LONG = {
    "open_gop.mp4": ("libx264", {"x264-params": "open-gop=1:keyint=12:bframes=3:b-adapt=0"}),
    "closed.mkv": ("libx264", {"g": "15", "bf": "2"}),
    "refresh.mp4": ("libx264", {"x264-params": "intra-refresh=1:keyint=20"}),
    "hevc.mp4": ("libx265", {"x265-params": "log-level=none:pools=1:keyint=12:open-gop=1"}),
    "vp9.webm": ("libvpx-vp9", {"deadline": "realtime", "g": "12"}),
    "mpeg4.mp4": ("mpeg4", {"g": "12", "bf": "2"}),
}


@pytest.mark.parametrize("name", LONG)
def test_seeking_gives_the_sequential_pixels(tmp_path: Path, name):
    codec, options = LONG[name]
    path = write_numbers(tmp_path / name, codec=codec, count=200, codec_options=options)
    _, _, sampled, frames, _ = read(path, replace(CONFIG, sample_fps=5.0))
    for picked in ([0], [len(sampled) - 1], [3, 96, 41], list(range(50, 60))):
        got = read_frames(path, sampled[picked].tolist(), CONFIG)
        np.testing.assert_array_equal(got, [frames[i] for i in picked])


def test_times_without_a_frame_are_refused(odd: Path):
    with pytest.raises(UnreadableVideoError, match=r"no frame at 0\.050000 s \(1 of 2"):
        read_frames(odd / "h264.mp4", [0.0, 0.05], CONFIG)
