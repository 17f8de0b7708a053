"""One video's way into the memory: true times, true cuts, pictures from inside their events."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.odd_times import (
    FIVE,
    colour_of,
    scenes,
    write_film,
    write_segments,
    write_stamped,
)  # fmt: skip
from marc_core.config import EventConfig, MethodConfig, VideoConfig
from marc_core.evaluation.variants.footage import FileLoader
from marc_core.events import ShotDetector
from marc_core.indexing import (
    Cut,
    DecodedVideo,
    cut,
    decode_video,
    encoded_events,
)
from marc_core.video import IsolatedDecoder

EVENTS = EventConfig(change_points=False, min_event_s=0.5)


class MeanColours:
    """An encoder: a frame's mean colour as a unit vector."""

    fingerprint = "mean colours"

    def encode_images(self, frames_FHWC):
        means = frames_FHWC.reshape(len(frames_FHWC), -1, 3).mean(axis=1)
        return (means / np.linalg.norm(means, axis=1, keepdims=True)).astype(np.float32)


class ColourChanges:
    """A shot detector: the last frame before another mean colour is a transition."""

    config = EVENTS

    def reset(self):
        self.means = []

    def push(self, frames_FHWC):
        self.means += frames_FHWC.reshape(len(frames_FHWC), -1, 3).mean(axis=1).tolist()

    def finish_with_dark(self):
        means = np.array(self.means)
        changes = np.abs(np.diff(means, axis=0)).max(axis=1) > 40
        return np.append(changes, False).astype(np.float32), means.max(axis=1) < 20


@pytest.fixture(scope="module")
def transnet():
    torch.set_num_threads(1)
    return ShotDetector(EVENTS)


@pytest.fixture(scope="module")
def index():
    """index(path, detector, **settings of VideoConfig) -> (DecodedVideo, Cut), as stages do it."""

    def work(path: Path, detector=None, **settings) -> tuple[DecodedVideo, Cut]:
        with IsolatedDecoder(replace(VideoConfig(chunk_frames=50), **settings)) as decoder:
            decoded = decode_video(str(path), decoder, detector or ColourChanges())
        parts = cut(decoded, MeanColours(), EVENTS)
        check(decoded, parts)
        return decoded, parts

    return work


def check(decoded: DecodedVideo, parts: Cut) -> None:
    """What holds for every video."""
    summary, times_S = decoded.summary, decoded.times_s[decoded.sampled_index]
    assert np.all(np.diff(decoded.times_s) > 0)
    assert np.all(np.diff(decoded.sampled_index) > 0)
    assert len(decoded.sampled_index) == len(decoded.sampled_frames) == len(parts.embeddings_SD)
    assert parts.events[0].start_s == summary.start_s == decoded.times_s[0]
    assert parts.events[-1].end_s == summary.end_s
    for event, positions in zip(parts.events, parts.positions, strict=True):
        assert len(positions)
        assert np.all((times_S[positions] >= event.start_s) & (times_S[positions] < event.end_s))
        for start_s, end_s in summary.gaps:
            assert event.end_s <= start_s or event.start_s >= end_s
    assert np.concatenate(parts.positions).tolist() == list(range(len(times_S)))


def spans(parts: Cut) -> list[tuple[float, float]]:
    return [(e.start_s, e.end_s) for e in parts.events]


def colours(decoded: DecodedVideo, parts: Cut) -> list[str]:
    """The colour of each event; all of its pictures have it."""
    found = [{colour_of(decoded.sampled_frames[p]) for p in ps} for ps in parts.positions]
    assert all(len(names) == 1 for names in found), found
    return [names.pop() for names in found]


def even(start_s: float, scene_s: float = 2.0, count: int = 5) -> list[tuple[float, float]]:
    return [
        pytest.approx((start_s + scene_s * i, start_s + scene_s * (i + 1)), abs=0.05)
        for i in range(count)
    ]


def stamps(start_ms: int = 0, count: int = 250) -> list[int]:
    return [start_ms + 40 * i for i in range(count)]


@pytest.mark.parametrize(
    ("start_ms", "spoilt"),
    [
        (0, {}),
        (40_000, {50: 30_000}),
        (40_000, {50: -30_000}),
        (40_000, {0: 30_000}),
        (40_000, {249: 30_000}),
        (40_000, {249: -30_000}),
        (0, {50: 30_000}),
        (0, dict.fromkeys((0, 49, 50, 125, 249), 3600000)),
        (0, dict.fromkeys(range(100, 105), 3600000)),
        (5_000_000, dict.fromkeys(range(98, 103), -3600000)),
    ],
    ids=str,
)
def test_spoilt_stamps_cost_their_own_frames_only(index, tmp_path, start_ms, spoilt):
    given = [stamp + spoilt.get(i, 0) for i, stamp in enumerate(stamps(start_ms))]
    decoded, parts = index(write_stamped(tmp_path / "spoilt.mkv", scenes(), given))
    np.testing.assert_allclose(decoded.times_s, np.array(stamps(start_ms)) / 1000, atol=1e-6)
    assert spans(parts) == even(start_ms / 1000)
    assert colours(decoded, parts) == list(FIVE)
    assert bool(decoded.summary.warnings) == bool(spoilt)
    assert decoded.summary.gaps == ()


def test_a_spoilt_composition_offset_costs_its_own_frame_only(index, tmp_path):
    path = write_film(tmp_path / "ctts.mp4", scenes(), shifts_ms={50: 30_000})
    decoded, parts = index(path)
    assert spans(parts) == even(0.0)
    assert colours(decoded, parts) == list(FIVE)
    assert decoded.summary.num_errors == 0


@pytest.mark.parametrize(("segments", "start_s"), [(10, 0.0), (10, 1.4), (25, 0.0), (2, 3.0)])
def test_segments_that_start_anew_are_one_video(index, tmp_path, segments, start_s):
    path = write_segments(tmp_path / "segments.ts", scenes(), [start_s] * segments)
    decoded, parts = index(path)
    assert spans(parts) == even(start_s)
    assert colours(decoded, parts) == list(FIVE)
    assert f"Restarts of the clock, over which time goes on: {segments - 1}." in (
        decoded.summary.warnings
    )


def test_two_thousand_frames_a_second(index, tmp_path):
    given = [(i + 1) // 2 for i in range(4000)]
    film = scenes(seconds=1.0, fps=2000, colours=("red", "blue"))
    path = write_stamped(tmp_path / "fast.mkv", film, given, fps=2000)
    decoded, parts = index(path, sample_fps=5.0)
    np.testing.assert_allclose(decoded.times_s, np.arange(4000) / 2000, atol=1.1e-3)
    assert decoded.summary.end_s - decoded.summary.start_s == pytest.approx(2.0, abs=0.002)
    assert spans(parts) == even(0.0, 1.0, 2)
    assert len(decoded.sampled_index) == 11  # the last frame is stamped 2.000


@pytest.mark.parametrize("jump_s", [30.0, 600.0, 400_000.0])
def test_a_jump_of_the_clock_is_a_gap(index, tmp_path, jump_s):
    given = [stamp + (round(jump_s * 1000) if i >= 125 else 0) for i, stamp in enumerate(stamps())]
    decoded, parts = index(write_stamped(tmp_path / "jump.mkv", scenes(), given))
    assert decoded.summary.gaps == (pytest.approx((5.0, 5.0 + jump_s)),)
    expected = [(0, 2), (2, 4), (4, 5), (5, 6), (6, 8), (8, 10)]
    late = [(a + jump_s * (a >= 5), b + jump_s * (b > 5)) for a, b in expected]
    assert spans(parts) == [pytest.approx(span, abs=0.05) for span in late]
    assert parts.events[3].kind == "gap"
    assert colours(decoded, parts) == ["red", "blue", "green", "green", "yellow", "white"]


def test_a_picture_that_an_mp4_holds_is_no_gap(index, tmp_path):
    """An mp4 says of every frame how long it is shown; a recorded screen may stand still."""
    given = [stamp + (30_000 if i >= 125 else 0) for i, stamp in enumerate(stamps())]
    decoded, parts = index(write_film(tmp_path / "screen.mp4", scenes(), given))
    assert decoded.summary.gaps == ()
    assert decoded.summary.end_s == pytest.approx(40.0, abs=0.05)
    expected = [(0, 2), (2, 4), (4, 36), (36, 38), (38, 40)]
    assert spans(parts) == [pytest.approx(span, abs=0.05) for span in expected]
    assert colours(decoded, parts) == list(FIVE)


def test_an_mp4_that_stood_still_for_minutes_has_a_gap(index, tmp_path):
    given = [stamp + (600_000 if i >= 125 else 0) for i, stamp in enumerate(stamps())]
    decoded, parts = index(write_film(tmp_path / "recorder.mp4", scenes(), given))
    assert decoded.summary.gaps == (pytest.approx((5.0, 605.0), abs=0.05),)
    assert max(e.end_s - e.start_s for e in parts.events) < 2.1


def test_a_recorder_s_jump_in_a_transport_stream(index, tmp_path):
    path = write_segments(tmp_path / "jump.ts", scenes(), [1.0, 606.0])
    decoded, parts = index(path)
    assert decoded.summary.gaps == (pytest.approx((6.0, 606.0)),)
    assert max(e.end_s - e.start_s for e in parts.events) < 2.1
    assert decoded.summary.end_s == pytest.approx(611.0)


def test_a_clock_that_wraps_in_mid_file(index, tmp_path):
    wrap_s = 2**33 / 90_000
    decoded, parts = index(write_segments(tmp_path / "wrap.ts", scenes(), [wrap_s - 5.0, 0.0]))
    start_s = decoded.summary.start_s
    assert spans(parts) == even(start_s)
    assert decoded.summary.end_s - start_s == pytest.approx(10.0, abs=0.01)


@pytest.mark.parametrize("ending", ["ts", "mpg"])
@pytest.mark.parametrize("back_s", [61.0, 3600.0, 49_990.0])
def test_a_clock_that_steps_back_did_not_wrap(index, tmp_path, back_s, ending):
    """FFmpeg takes a step back of more than a minute for a wrap and adds a day."""
    starts_s = [50_000.0, 50_000.0 - back_s]
    decoded, parts = index(write_segments(tmp_path / f"back.{ending}", scenes(), starts_s))
    assert spans(parts) == even(50_000.0)
    assert decoded.summary.gaps == ()
    assert "Restarts of the clock, over which time goes on: 1." in decoded.summary.warnings


@pytest.mark.parametrize("ending", ["ts", "mpg"])
def test_a_clock_that_wraps_hours_after_the_beginning(index, tmp_path, ending):
    wrap_s = 2**33 / 90_000
    starts_s = [wrap_s - 100.0, wrap_s - 2.0]
    decoded, _ = index(write_segments(tmp_path / f"late.{ending}", scenes(), starts_s))
    times_s = np.concatenate([np.arange(125) * 0.04 + start_s for start_s in starts_s])
    np.testing.assert_allclose(decoded.times_s, times_s, atol=2e-5)
    assert decoded.summary.gaps == (pytest.approx((wrap_s - 95.0, wrap_s - 2.0)),)
    assert "Restarts" not in "".join(decoded.summary.warnings)


def test_a_recorder_s_clock_is_kept(index, tmp_path):
    path = write_segments(tmp_path / "recorder.ts", scenes(), [50_000.0])
    decoded, parts = index(path)
    assert spans(parts) == even(50_000.0)
    assert decoded.summary.warnings == ()


@pytest.mark.parametrize("promised_s", [0.5, 18_000.0, 360_000.0])
def test_the_container_s_duration_is_a_hint(index, tmp_path, promised_s):
    path = write_stamped(tmp_path / "promise.mkv", scenes(), stamps(), promised_s)
    decoded, parts = index(path, max_sampled_frames=20)
    assert decoded.summary.info.duration_s == promised_s
    assert spans(parts) == even(0.0)
    assert colours(decoded, parts) == list(FIVE)
    assert decoded.summary.sample_fps == 1.0
    assert len(decoded.sampled_index) == 10


def short_shots(still_s: int, tail_s: int) -> tuple[list[str], list[int], list[tuple[float, str]]]:
    """A still scene of one frame a second, then ten coloured shots of 1.2 s, then stillness.

    Returns colours and stamps of the frames, and (start_s, colour) of the shots.
    """
    film, given = ["white"] * still_s, [1000 * i for i in range(still_s)]
    names = [("red", "yellow", "blue", "green")[i % 4] for i in range(10)]
    shots = [(still_s + 1.2 * i, name) for i, name in enumerate(names)]
    for start_s, name in shots:
        film += [name] * 30
        given += [round(start_s * 1000) + 40 * k for k in range(30)]
    end_ms = still_s * 1000 + 12_000
    film += ["white"] * tail_s
    given += [end_ms + 1000 * i for i in range(tail_s)]
    return film, given, shots


def assert_shots_show_themselves(decoded: DecodedVideo, parts: Cut, shots) -> None:
    for start_s, name in shots:
        (i,) = [i for i, e in enumerate(parts.events) if abs(e.start_s - start_s) < 0.05]
        assert parts.events[i].end_s == pytest.approx(start_s + 1.2, abs=0.05)
        assert {colour_of(decoded.sampled_frames[p]) for p in parts.positions[i]} == {name}


@pytest.mark.parametrize("name", ["long.mp4", pytest.param("long.mkv", marks=pytest.mark.slow)])
def test_short_shots_of_a_long_video_show_themselves(index, transnet, tmp_path, name):
    film, given, shots = short_shots(120, 28)
    write = write_stamped if name.endswith("mkv") else write_film
    detector = transnet if name.endswith("mkv") else None
    decoded, parts = index(write(tmp_path / name, film, given), detector, max_sampled_frames=45)
    assert decoded.summary.sample_fps == 0.25
    assert_shots_show_themselves(decoded, parts, shots)


@pytest.mark.slow
def test_short_shots_of_three_hours_show_themselves(index, transnet, tmp_path):
    film, given, shots = short_shots(9000, 1788)
    decoded, parts = index(write_film(tmp_path / "three_hours.mp4", film, given), transnet)
    assert decoded.summary.end_s == pytest.approx(10_800, abs=1.1)
    assert_shots_show_themselves(decoded, parts, shots)
    (blue,) = [i for i, e in enumerate(parts.events) if abs(e.start_s - 9002.4) < 0.05]
    assert {colour_of(decoded.sampled_frames[p]) for p in parts.positions[blue]} == {"blue"}


def test_a_video_shorter_than_a_second(index, tmp_path):
    decoded, parts = index(write_film(tmp_path / "short.mp4", ["red"] * 3))
    assert len(parts.events) == 1
    assert decoded.summary.end_s == pytest.approx(0.12)


def test_events_encoded_together_equal_events_encoded_alone(make_tower, make_frames):
    tower = make_tower()
    most = tower.config.max_frames
    events = [make_frames(n, seed=n) for n in (1, 2, 7, 30, 64, 70, 3)]
    together = list(encoded_events(tower, events, most))
    for event, features in zip(events, together, strict=True):
        (alone,) = encoded_events(tower, [event], most)
        assert torch.equal(alone.groups_TPD, features.groups_TPD)
        assert torch.equal(alone.times_T, features.times_T)
    assert max(f.num_source_groups for f in together) == tower.config.max_frames // 2


def test_evaluation_cuts_files_as_indexing_does(index, transnet, tmp_path):
    """A fade to black and back is one boundary for both."""
    colours_ = [*["red"] * 50, *["black"] * 10, *["blue"] * 50]
    path = write_film(tmp_path / "fade.mp4", colours_)
    _, parts = index(path, transnet)
    loader = FileLoader(MethodConfig(events=EVENTS), MeanColours())
    with loader.decoder:
        footage = loader.load(str(path))
    assert list(footage.spans) == spans(parts)
    assert len(parts.events) == 2
    assert [p.tolist() for p in footage.positions] == [p.tolist() for p in parts.positions]
