import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.odd_media import join_bytes, read_number, write_numbers
from marc_core.config import VideoConfig
from marc_core.errors import ConfigError
from marc_core.video import admit_decord, decode, probe, read_frames

PYAV = VideoConfig(chunk_frames=7)
DECORD = replace(PYAV, backend="decord")

ADMITTED = [
    "h264.mp4", "h264_open_gop.mp4", "h264_interlaced.mp4", "h264_10bit.mkv", "hevc.mp4",
    "vfr.mp4", "gap.mkv",
    "odd_size.mkv", "one_frame.mp4",
]  # fmt: skip
REFUSED = {
    "av1.mkv": "codec av1",
    "vp9.webm": "codec vp9",
    "animation.gif": "container gif",
    "h264.ts": "container mpegts",
    "mpeg4.avi": "container avi",
    "mpeg2_interlaced.mpg": "container mpeg",
    "delayed_start.mp4": "first timestamp is 1.500 s",
    "edit_list.mp4": "edit list",
    "times_missing.mkv": "no timestamp",
    "rotated_90.mov": "rotation by 270",
    "rotated_180.mov": "rotation by 180",
    "size_change.ts": "container mpegts",
}


def test_a_machine_without_decord_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.path", [str(tmp_path)])  # an installation that lacks it
    monkeypatch.delitem(sys.modules, "decord", raising=False)
    with pytest.raises(ConfigError, match=r"wheels for Linux on x86-64.*video\.backend=pyav"):
        decode("clip.mp4", DECORD)


def read(path, config):
    with decode(path, config) as decoding:
        chunks = list(decoding)
        return chunks, decoding.summary


@pytest.mark.parametrize("name", ADMITTED)
def test_admitted_files_give_pyav_s_frames(odd: Path, name):
    assert admit_decord(odd / name, probe(odd / name, PYAV)) is None
    expected, by_pyav = read(odd / name, PYAV)
    got, summary = read(odd / name, DECORD)
    assert summary.backend == "decord"
    assert replace(summary, backend="pyav", backend_reason="default") == by_pyav
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_array_equal(a.times_s, b.times_s)
        np.testing.assert_array_equal(a.sampled_index, b.sampled_index)
        assert a.sampled_frames.shape == b.sampled_frames.shape
        assert [read_number(f) for f in a.shot_frames] == [read_number(f) for f in b.shot_frames]
        difference = np.abs(a.shot_frames.astype(int) - b.shot_frames)
        assert difference.mean() < 4
        if len(a.sampled_frames):
            assert np.abs(a.sampled_frames.astype(int) - b.sampled_frames).mean() < 4


@pytest.mark.parametrize("name", REFUSED)
def test_refused_files_go_to_pyav_with_the_reason(odd: Path, name):
    assert REFUSED[name] in admit_decord(odd / name, probe(odd / name, PYAV))
    expected, by_pyav = read(odd / name, PYAV)
    got, summary = read(odd / name, DECORD)
    assert summary.backend == "pyav"
    assert summary.backend_reason.startswith("decord refused: ")
    assert REFUSED[name] in summary.backend_reason
    assert replace(summary, backend_reason="default") == by_pyav
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_array_equal(a.shot_frames, b.shot_frames)


def test_damage_that_packets_do_not_show_falls_back_to_pyav(odd: Path):
    expected, by_pyav = read(odd / "damaged.mp4", PYAV)
    got, summary = read(odd / "damaged.mp4", DECORD)
    assert summary.backend == "pyav"
    assert summary.backend_reason.startswith("decord failed: ")
    assert summary.num_errors == by_pyav.num_errors
    np.testing.assert_array_equal(got[0].shot_frames, expected[0].shot_frames)


def test_a_picture_format_that_changes_inside_the_stream_is_seen(tmp_path: Path):
    """Annex B in Matroska: the second size stands only in a parameter set inside a packet."""
    import av

    parts = [
        write_numbers(tmp_path / "a.h264", size=(160, 96), codec_options={"bf": "0"}),
        write_numbers(tmp_path / "b.h264", size=(96, 64), codec_options={"bf": "0"}),
    ]
    both = join_bytes(parts, tmp_path / "both.h264")
    path = tmp_path / "changes.mkv"
    with av.open(str(both)) as media, av.open(str(path), "w") as out:
        copy = out.add_stream_from_template(media.streams.video[0])
        for number, packet in enumerate(p for p in media.demux() if p.size):
            packet.stream, packet.pts, packet.dts = copy, number * 48000, number * 48000
            out.mux(packet)
    assert "changes" in admit_decord(path, probe(path, PYAV))


def test_exact_frames_equal_decord_s_sampled_frames(odd: Path):
    config = replace(DECORD, sample_fps=3.0)
    chunks, _ = read(odd / "h264.mp4", config)
    frames = np.concatenate([c.sampled_frames for c in chunks if len(c.sampled_frames)])
    times = np.concatenate([c.times_s[c.sampled_index] for c in chunks])
    got = read_frames(odd / "h264.mp4", times[[4, 1]].tolist(), config)
    np.testing.assert_array_equal(got, frames[[4, 1]])


def test_narrow_samples_are_refused(odd: Path):
    _, summary = read(odd / "h264.mp4", replace(DECORD, frame_max_pixels=2000))
    assert "narrower than 64" in summary.backend_reason
