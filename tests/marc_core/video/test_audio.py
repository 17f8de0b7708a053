"""Sound comes with its time on the video's clock, whatever the container does."""

from __future__ import annotations

import time
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition

from benchmarks.odd_media import join_bytes, shift_copy, write_numbers
from benchmarks.sound_media import beeps, beeps_heard, write_sounded
from marc_core.config import VideoConfig
from marc_core.errors import UnreadableVideoError
from marc_core.video import Decoding, IsolatedDecoder
from marc_core.video.anchors import Anchors
from marc_core.video.audio import has_sound, sound_blocks
from marc_core.video.clock import repaired_by

CONFIG = VideoConfig()
TIMES_S = [0.5, 2.0, 3.25]
EXACT_S = 0.003
"""A codec smears a tone's beginning; the threshold is met within a period or two."""


def heard(path: Path, *, repaired: bool = False) -> list[float]:
    return beeps_heard(list(sound_blocks(path, repaired=repaired)))


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("a.mp4", "aac"),
        ("a.mkv", "libopus"),
        ("a.mkv", "pcm_s16le"),
        ("a.ts", "aac"),
        ("a.mov", "pcm_s16le"),
    ],
)
def test_tones_are_where_they_were_put(tmp_path: Path, name: str, codec: str) -> None:
    path = write_sounded(tmp_path / name, beeps(TIMES_S, 4.0), codec=codec)
    with Decoding(path, CONFIG) as decoding:
        start_s = next(iter(decoding)).times_s[0]  # a transport stream begins at 1.4 s
    np.testing.assert_allclose(heard(path), np.add(TIMES_S, start_s), atol=EXACT_S)


@pytest.mark.parametrize(
    ("rate", "layout", "channels"), [(8000, "mono", 1), (44_100, "stereo", 2), (48_000, "5.1", 6)]
)
def test_any_rate_and_layout_becomes_one_channel(
    tmp_path: Path, rate: int, layout: str, channels: int
) -> None:
    sound = np.tile(beeps(TIMES_S, 4.0, rate), (channels, 1))
    path = write_sounded(tmp_path / "a.mkv", sound, rate=rate, layout=layout, codec="pcm_s16le")
    np.testing.assert_allclose(heard(path), TIMES_S, atol=EXACT_S)
    blocks = list(sound_blocks(path))
    assert sum(len(block.samples) for block in blocks) == pytest.approx(64_000, abs=2)
    assert all(b.samples.dtype == np.float32 and len(b.samples) <= 16_000 for b in blocks)


@pytest.mark.parametrize("default", [0, 1])
def test_of_two_tracks_the_one_that_players_play_is_heard(tmp_path: Path, default: int) -> None:
    times_s = ([0.5, 2.0, 3.25], [1.0, 3.0])
    paths = [
        write_sounded(tmp_path / f"{i}.mkv", beeps(times, 4.0), codec="pcm_s16le")
        for i, times in enumerate(times_s)
    ]
    path = tmp_path / "both.mkv"
    with av.open(str(path), "w") as out, av.open(str(paths[0])) as a, av.open(str(paths[1])) as b:
        kept = [a.streams.video[0], a.streams.audio[0], b.streams.audio[0]]
        made = {stream: out.add_stream_from_template(stream) for stream in kept}
        for number, stream in enumerate(kept[1:]):
            made[stream].disposition = Disposition.default if number == default else Disposition(0)
        packets = [*a.demux(kept[:2]), *b.demux(kept[2])]
        for packet in sorted((p for p in packets if p.dts is not None), key=_at):
            packet.stream = made[packet.stream]
            out.mux(packet)
    np.testing.assert_allclose(heard(path), times_s[default], atol=EXACT_S)


def _at(packet: av.Packet) -> float:
    return float(packet.dts * packet.time_base)


def test_sound_that_begins_late_is_late(tmp_path: Path) -> None:
    for name, codec in (("a.mp4", "aac"), ("a.mkv", "pcm_s16le")):
        sound = beeps(TIMES_S, 4.0)
        path = write_sounded(tmp_path / name, sound, codec=codec, sound_from_s=1.5)
        np.testing.assert_allclose(heard(path), np.add(TIMES_S, 1.5), atol=EXACT_S)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts"])
def test_missing_sound_moves_nothing(tmp_path: Path, name: str) -> None:
    path = write_sounded(tmp_path / name, beeps(TIMES_S, 4.0), missing_s=(0.9, 1.8))
    with Decoding(path, CONFIG) as decoding:
        start_s = next(iter(decoding)).times_s[0]
    blocks = list(sound_blocks(path))
    np.testing.assert_allclose(beeps_heard(blocks), np.add(TIMES_S, start_s), atol=0.03)
    assert [block.joins for block in blocks].count(False) == 2  # the beginning and the gap


def test_an_edit_list_and_a_start_before_zero_move_sound_as_they_move_pictures(
    tmp_path: Path,
) -> None:
    plain = write_sounded(tmp_path / "plain.mp4", beeps(TIMES_S, 4.0))
    as_is = {"avoid_negative_ts": "disabled"}
    for name, shift_s in (("cut.mp4", -1.0), ("late.mp4", 1.5), ("early.mkv", -1.0)):
        moved = shift_copy(plain, tmp_path / name, shift_s, as_is, sound=True)
        wanted = [t + shift_s for t in TIMES_S if name != "cut.mp4" or t + shift_s > 0]
        np.testing.assert_allclose(
            [t for t in heard(moved) if t > 0 or name == "early.mkv"], wanted, atol=EXACT_S
        )


def test_sound_of_a_wrapping_clock_goes_on(tmp_path: Path) -> None:
    plain = write_sounded(tmp_path / "plain.ts", beeps(TIMES_S, 4.0))
    wrap_s = 2**33 / 90_000
    options = {"avoid_negative_ts": "disabled", "mpegts_copyts": "1"}
    moved = shift_copy(plain, tmp_path / "wrap.ts", wrap_s - 3.4, options, sound=True)
    with Decoding(moved, CONFIG) as decoding:
        start_s = next(iter(decoding)).times_s[0]
    np.testing.assert_allclose(heard(moved), np.add(TIMES_S, start_s), atol=0.03)


def test_after_a_restart_sound_is_beside_its_pictures(tmp_path: Path) -> None:
    parts = [
        write_sounded(tmp_path / f"{i}.ts", beeps([0.5 + i], 3.0), seconds=3.0) for i in range(3)
    ]
    joined = join_bytes(parts, tmp_path / "joined.ts")
    with Decoding(joined, CONFIG) as decoding:
        times_s = np.concatenate([chunk.times_s for chunk in decoding])
        assert repaired_by(decoding.summary.warnings)
    starts_s = times_s[[0, 30, 60]]  # 30 pictures a part
    wanted = np.add(starts_s, [0.5, 1.5, 2.5])
    np.testing.assert_allclose(heard(joined, repaired=True), wanted, atol=0.03)


def test_a_stamp_out_of_line_is_not_believed() -> None:
    anchors: Anchors[int] = Anchors()
    stamps = [5.0 + 0.02 * i for i in range(40)]
    stamps[10] = 900.0
    stamps[20:] = [stamp + 7.0 for stamp in stamps[20:]]
    found = [f for i, stamp in enumerate(stamps) for f in anchors.push(stamp, 0.02, i)]
    found += anchors.finish()
    assert [number for _, _, number in found] == list(range(40))
    believed = [5.0 + 0.02 * i + (7.0 if i >= 20 else 0.0) for i in range(40)]
    np.testing.assert_allclose([time_s for time_s, _, _ in found], believed)
    assert [number for _, joins, number in found if not joins] == [0, 20]


def test_missing_stamps_are_counted_on() -> None:
    anchors: Anchors[int] = Anchors()
    stamps = [None, 1.02, None, None, 1.08]
    found = [f for i, stamp in enumerate(stamps) for f in anchors.push(stamp, 0.02, i)]
    found += anchors.finish()
    np.testing.assert_allclose([time_s for time_s, _, _ in found], [1.0, 1.02, 1.04, 1.06, 1.08])


def test_a_video_without_sound_is_not_decoded(tmp_path: Path) -> None:
    path = write_numbers(tmp_path / "silent.mp4")
    packets: list[None] = []
    assert not has_sound(path)
    assert not list(sound_blocks(path, on_packet=lambda: packets.append(None)))
    assert not packets


def test_nothing_is_read_far_beyond_the_end_that_is_asked_for(tmp_path: Path) -> None:
    path = write_sounded(tmp_path / "a.mp4", beeps(TIMES_S, 20.0))
    last = list(sound_blocks(path, until_s=2.0))[-1]
    assert 1.9 < last.start_s + len(last.samples) / 16_000 < 2.5


def test_errors_name_the_file(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(UnreadableVideoError, match=r"text\.mp4"):
        list(sound_blocks(tmp_path / "text.mp4"))


def test_the_child_gives_the_same_sound(tmp_path: Path) -> None:
    path = write_sounded(tmp_path / "a.mp4", beeps(TIMES_S, 4.0), sound_from_s=0.5)
    here = list(sound_blocks(path))
    with IsolatedDecoder(CONFIG) as decoder:
        there = list(decoder.sound(path))
        assert [(b.start_s, b.joins) for b in there] == [(b.start_s, b.joins) for b in here]
        for mine, its in zip(here, there, strict=True):
            np.testing.assert_array_equal(mine.samples, its.samples)
        pid = decoder.child_pid
        assert next(decoder.sound(path)).start_s == here[0].start_s
        assert decoder.child_pid is None  # left before the end
        assert len(list(decoder.sound(path))) == len(here)
        assert decoder.child_pid not in (None, pid)
        (tmp_path / "text.mp4").write_text("no video")
        with pytest.raises(UnreadableVideoError):
            list(decoder.sound(tmp_path / "text.mp4"))


def test_what_is_done_with_the_sound_is_not_the_decoders_time(tmp_path: Path) -> None:
    path = write_sounded(tmp_path / "a.mp4", beeps(TIMES_S, 8.0))
    with IsolatedDecoder(CONFIG) as decoder:
        blocks = decoder.sound(path)
        next(blocks)
        assert decoder._child is not None
        deadline_s = decoder._child.deadline_s
        time.sleep(0.2)
        next(blocks)
        assert decoder._child.deadline_s >= deadline_s + 0.2


def test_damaged_sound_costs_no_more_than_itself(tmp_path: Path) -> None:
    path = write_sounded(tmp_path / "a.ts", beeps(TIMES_S, 4.0))
    clean = heard(path)
    data = bytearray(path.read_bytes())
    middle = len(data) * 6 // 10
    data[middle : middle + 400] = b"\xff" * 400
    path.write_bytes(data)
    found = heard(path)
    assert clean[0] == pytest.approx(found[0], abs=EXACT_S)
    assert clean[-1] == pytest.approx(found[-1], abs=0.03)
