"""Packets become segment files: where they are cut, what is told, what a kill leaves."""

from __future__ import annotations

import datetime as dt
import io
import json
import time
from pathlib import Path

import av
import numpy as np
import pytest

from marc_core.errors import SourceError
from marc_core.live.config import WatchConfig
from marc_core.live.recording import NOT_RUNNING, Recording
from marc_core.live.spool import Spool
from tests.live_hls import encode_piece

WALL_S = 1_780_000_000.0


class Recorded:
    """A recording into a folder, and what it told."""

    def __init__(self, folder: Path, **config: float) -> None:
        self.told: list[dict] = []
        self.spool = Spool(str(folder), "gate", "Gate 3", ("north",))
        config = {"segment_s": 1.0} | config
        self.recording = Recording(self.spool, WatchConfig(**config), self.told.append)

    def feed(self, data: bytes, wall_s: float | None, *, skip: int = 0) -> None:
        with av.open(io.BytesIO(data)) as container:
            first = None
            for packet in container.demux():
                if packet.stream.type == "video" and packet.pts is not None:
                    stamp = float(packet.pts * packet.time_base)
                    first = stamp if first is None else first
                    wall = None if wall_s is None else wall_s + stamp - first
                    skip -= 1
                    if skip < 0:
                        self.recording.put(packet, wall_s=wall, clock="pdt")
                else:
                    self.recording.put(packet)

    @property
    def gaps(self) -> list[tuple[str, str | None, str]]:
        told = [m for m in self.told if m["what"] == "gap"]
        return [(m["from"][11:19], m["until"] and m["until"][11:19], m["reason"]) for m in told]

    @property
    def files(self) -> list[Path]:
        return [Path(m["path"]) for m in self.told if m["what"] == "closed"]


def pictures(path: Path) -> tuple[int, int, list[float]]:
    """Return (frames, width, times) of a segment."""
    with av.open(str(path)) as container:
        frames = list(container.decode(container.streams.best("video")))
    return len(frames), frames[0].width, [round(float(f.time), 3) for f in frames]


def test_segments_hold_every_frame_and_their_own_clock(tmp_path: Path) -> None:
    made = Recorded(tmp_path, segment_s=2.0)
    for number in range(4):
        made.feed(encode_piece(number), WALL_S + number)
    made.recording.close()
    assert [pictures(f) for f in made.files] == [(20, 160, [i / 10 for i in range(20)])] * 2
    beside = json.loads(made.files[1].with_suffix(".json").read_text())
    assert beside == {
        "camera": "Gate 3",
        "tags": ["source:gate", "clock:pdt", "north"],
        "recorded_at": "2026-05-28T20:26:42+00:00",
    }
    assert made.files[1].name == "gate-20260528T202642.000Z.mkv"
    assert made.gaps == []


def test_another_picture_size_begins_another_segment(tmp_path: Path) -> None:
    made = Recorded(tmp_path, segment_s=60.0)
    stream = encode_piece(0) + encode_piece(1, size=(320, 192)) + encode_piece(2, size=(320, 192))
    made.feed(stream, WALL_S)  # one connection, as of a camera that is set otherwise
    made.recording.close()
    assert [pictures(f)[:2] for f in made.files] == [(10, 160), (20, 320)]
    with av.open(str(made.files[1])) as container:
        assert container.streams.video[0].codec_context.width == 320
    assert made.gaps == []


def test_a_wrap_of_the_timestamps_loses_nothing(tmp_path: Path) -> None:
    made = Recorded(tmp_path, segment_s=60.0)
    made.feed(encode_piece(0, first_stamp=2**33 - 90_000), WALL_S)
    made.feed(encode_piece(1, first_stamp=0), WALL_S + 1)
    made.recording.close()
    ((count, _, times),) = [pictures(f) for f in made.files]
    assert count == 20
    assert times == pytest.approx([i / 10 for i in range(20)], abs=0.02)  # 2^33 is no tenth


def test_sound_goes_with_its_pictures(tmp_path: Path) -> None:
    made = Recorded(tmp_path)
    for number in range(3):
        made.feed(encode_piece(number, sound=True), WALL_S + number)
    made.recording.close()
    heard = 0
    for path in made.files:
        with av.open(str(path)) as container:
            stamps = [float(p.pts * p.time_base) for p in container.demux(audio=0) if p.size]
        heard += len(stamps)
        assert -0.2 < stamps[0] < 0.2
        assert 0.6 < stamps[-1] < 1.2
    assert heard >= 3 * 16_000 // 1024 - 3


def nut(video: str, audio: str) -> bytes:
    """Return three seconds of pictures and a tone of 8 kHz, of codecs as named."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="nut") as out:
        pictures = out.add_stream(video, rate=10, options={"g": "10"})
        pictures.width, pictures.height = 160, 96
        pictures.pix_fmt = "yuv420p" if video == "mpeg4" else "rgb24"
        sound = out.add_stream(audio, rate=8_000, layout="mono")
        for i in range(30):
            shade = np.full((96, 160, 3), i * 8, np.uint8)
            out.mux(pictures.encode(av.VideoFrame.from_ndarray(shade, format="rgb24")))
            tone = 8_000 * np.sin(np.arange(800) / 5)
            heard = av.AudioFrame.from_ndarray(tone.astype(np.int16)[None], "s16", "mono")
            heard.rate, heard.pts = 8_000, i * 800
            out.mux(sound.encode(heard))
        out.mux([*pictures.encode(), *sound.encode()])
    return buffer.getvalue()


@pytest.mark.parametrize("codec", ["pcm_mulaw", "pcm_alaw", "g722"])
def test_sound_that_matroska_does_not_take_is_recorded_decoded(tmp_path: Path, codec: str) -> None:
    made = Recorded(tmp_path)
    made.feed(nut("mpeg4", codec), WALL_S)
    made.recording.close()
    assert [pictures(f)[0] for f in made.files] == [10] * 3
    lengths = []
    for path in made.files:
        with av.open(str(path)) as container:
            heard = list(container.decode(audio=0))
        samples = np.concatenate([frame.to_ndarray()[0] for frame in heard])
        assert 4_000 < np.abs(samples.astype(int)).max() < 12_000
        assert heard[0].sample_rate == 8_000
        lengths.append(len(samples))
    assert sum(lengths) == pytest.approx(24_000, abs=1_000)
    assert made.gaps == []


def test_pictures_that_no_file_takes_leave_nothing_behind(tmp_path: Path) -> None:
    made = Recorded(tmp_path)
    made.feed(encode_piece(0), WALL_S)
    made.recording.lost("away")
    for _ in range(2):
        made.recording.connected()
        with pytest.raises(ValueError, match="does not support"):
            made.feed(nut("huffyuv", "pcm_s16le"), WALL_S + 9)
    assert [gap[1] for gap in made.gaps] == [None]
    assert len(list(tmp_path.rglob("*.json"))) == 2  # that of the segment, and .state.json


def test_a_break_is_a_gap_and_a_clock_that_jumps_is_one_too(tmp_path: Path) -> None:
    made = Recorded(tmp_path)
    made.feed(encode_piece(0), WALL_S)
    made.recording.lost("ConnectionRefusedError")
    assert made.gaps == [("20:26:41", None, "ConnectionRefusedError")]
    made.recording.connected()
    made.feed(encode_piece(5), WALL_S + 5)
    made.feed(encode_piece(6), WALL_S + 3606)
    made.feed(encode_piece(7), WALL_S + 7)
    made.recording.close()
    assert made.gaps[1:] == [
        ("20:26:41", "20:26:45", "ConnectionRefusedError"),
        ("20:26:46", "21:26:46", "the source's clock jumped by +3600.0 s"),
        ("21:26:47", "20:26:47", "the source's clock jumped by -3600.0 s"),
    ]
    assert [pictures(f)[0] for f in made.files] == [10] * 4


def test_what_a_source_has_not_given_from_the_start_is_a_gap(tmp_path: Path) -> None:
    made, before_s = Recorded(tmp_path), time.time()
    made.recording.lost("ConnectionRefusedError")
    made.recording.lost("ConnectionRefusedError")
    (since,) = {m["from"] for m in made.told}
    assert {m["until"] for m in made.told} == {None}
    since_s = dt.datetime.fromisoformat(since).timestamp()
    assert before_s - 0.001 <= since_s <= time.time() + 0.001  # moments are kept in milliseconds
    again = Recorded(tmp_path)  # another start goes on with the same gap
    again.recording.lost("OSError")
    again.recording.connected()
    again.feed(encode_piece(0), since_s + 60)
    again.recording.close()
    gaps = [m for m in again.told if m["what"] == "gap"]
    assert {gap["from"] for gap in gaps} == {since}
    ended = dt.datetime.fromisoformat(gaps[-1]["until"]).timestamp()
    assert ended == pytest.approx(since_s + 60, abs=0.01)


def test_a_break_in_which_nothing_was_missed_is_taken_back(tmp_path: Path) -> None:
    made = Recorded(tmp_path)
    made.feed(encode_piece(0), WALL_S)
    made.recording.lost("the playlist was away")
    made.recording.connected()
    made.feed(encode_piece(1), WALL_S + 1)
    assert made.gaps[1] == ("20:26:41", "20:26:41", "the playlist was away")


def test_after_a_break_a_segment_begins_at_a_keyframe(tmp_path: Path) -> None:
    made = Recorded(tmp_path)
    made.feed(encode_piece(0), WALL_S, skip=3)
    assert not made.files
    made.feed(encode_piece(1), WALL_S + 1)
    made.recording.close()
    assert [pictures(f)[0] for f in made.files] == [10]


def test_what_a_killed_recorder_left_is_taken_up(tmp_path: Path) -> None:
    made = Recorded(tmp_path, segment_s=60.0)
    for number in range(4):  # Matroska is written a second at a time
        made.feed(encode_piece(number), WALL_S + number)
    made.spool.open_path(WALL_S + 3.5, "pdt").touch()  # another one, of which nothing was written
    again = Recorded(tmp_path)
    (path,) = again.files
    assert path.name == "gate-20260528T202640.000Z.mkv"
    assert pictures(path)[0] >= 20
    assert not list(tmp_path.rglob(".*.mkv"))
    assert len(list(tmp_path.rglob("*.json"))) == 2  # one is .state.json
    again.feed(encode_piece(9), WALL_S + 9)
    again.recording.close()
    (gap,) = again.gaps
    assert gap[1:] == ("20:26:49", NOT_RUNNING)
    assert gap[0] in ("20:26:42", "20:26:43", "20:26:44")


def test_one_recorder_a_folder(tmp_path: Path) -> None:
    first = Spool(str(tmp_path), "gate", "", ())
    first.lock()
    with pytest.raises(SourceError, match="another `marc watch`"):
        Spool(str(tmp_path), "gate", "", ()).lock()
    first.unlock()
