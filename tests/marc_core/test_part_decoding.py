"""Parts of a video cut by themselves: the events of one pass but in shots that a seam cuts."""

from __future__ import annotations

import itertools
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from benchmarks.odd_media import join_bytes, write_numbers
from benchmarks.odd_times import write_film, write_stamped
from marc_core.config import EventConfig, VideoConfig
from marc_core.events import ShotDetector, segment
from marc_core.in_order import InOrder
from marc_core.indexing import decode_video
from marc_core.part_decoding import decode_part
from marc_core.video import IsolatedDecoder
from tests.marc_core.films import FRAMES, film, film_colours
from tests.marc_core.memories import PictureChange

VIDEO = VideoConfig(chunk_frames=64)
EVENTS = EventConfig(max_event_s=5.0, change_point_min_shot_s=8.0)
PART_S = 17.0


def spans(events, times_s):
    return [(times_s[e.first_frame], e.end_s, e.kind, round(e.score, 5)) for e in events]


def whole_events(path, decoder, detector):
    decoded = decode_video(str(path), decoder, detector)
    events = segment(
        decoded.times_s, decoded.shot_scores, decoded.sampled_index, None, detector.config,
        dark_F=decoded.dark, gaps=decoded.summary.gaps, end_s=decoded.summary.end_s,
    )  # fmt: skip
    return decoded, events


def part_events(seen, config):
    return segment(
        seen.times_s, seen.shot_scores, seen.sampled_index, None, config, dark_F=seen.dark,
        gaps=seen.summary.gaps, end_s=seen.summary.end_s, span=seen.span,
    )  # fmt: skip


def compare(path: Path, detector, part_s: float = PART_S) -> list[float]:
    """Check the sought parts of a file against one pass; return where parts begin inside a shot."""
    with IsolatedDecoder(VIDEO) as decoder:
        decoded, whole = whole_events(path, decoder, detector)
        layout = decoder.lay_out(path, part_s, detector.config)
        assert layout.doubt is None
        assert len(layout.parts) >= 3
        seen = [decode_part(str(path), part, decoder, detector) for part in layout.parts]
    return compared(decoded, whole, seen, detector.config)


def compare_in_order(path: Path, detector, why: str, part_s: float = PART_S) -> list[float]:
    """Check the parts of a file that cannot be sought, for that reason, against one pass."""
    with IsolatedDecoder(VIDEO) as decoder:
        decoded, whole = whole_events(path, decoder, detector)
        layout = decoder.lay_out(path, part_s, detector.config)
    assert why in layout.doubt
    assert len(layout.parts) >= 3
    with InOrder(str(path), VIDEO, detector) as running:
        seen = [running.part(part) for part in layout.parts]
    return compared(decoded, whole, seen, detector.config)


def compared(decoded, whole, seen, config) -> list[float]:
    for before, after in itertools.pairwise(seen):
        assert before.tail == after.head
        assert before.times_s[before.span.end] == after.times_s[after.span.first]
    assert sum(s.span.end - s.span.first for s in seen) == len(decoded.times_s)
    for part in seen:
        own = slice(*np.searchsorted(decoded.times_s, part.times_s[[0, -1]]) + np.array([0, 1]))
        np.testing.assert_array_equal(part.times_s, decoded.times_s[own])
        np.testing.assert_allclose(part.shot_scores, decoded.shot_scores[own], atol=1e-5)
    found = [e for s in seen for e in spans(part_events(s, config), s.times_s)]
    expected = spans(whole, decoded.times_s)
    cut_s = [start_s for start_s, _, kind, _ in found if kind == "part"]
    shots_s = [start_s for start_s, _, kind, _ in expected if kind in ("shot", "gap", "start")]
    edges = np.array([*shots_s, np.inf])
    untouched = np.ones(len(edges) - 1, bool)
    untouched[np.searchsorted(edges, cut_s, "right") - 1] = False

    def outside(events):
        return [e for e in events if untouched[np.searchsorted(edges, e[0], "right") - 1]]

    assert outside(found) == outside(expected)
    assert untouched.any()
    for at_s in cut_s:
        assert min(abs(at_s - s) for s in shots_s) > 1.0
    index = {float(decoded.times_s[i]): n for n, i in enumerate(decoded.sampled_index)}
    for part in seen:
        for i, frame in zip(part.sampled_index, part.sampled_frames, strict=True):
            time_s = float(part.times_s[i])
            if time_s in index:  # a shot that is cut in two has another middle
                np.testing.assert_array_equal(frame, decoded.sampled_frames[index[time_s]])
    return cut_s


@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 8))]
)
def test_parts_hold_the_events_of_one_pass_but_in_the_shots_that_a_seam_cuts(tmp_path, seed):
    compare(film(tmp_path / "film.mkv", seed), PictureChange(EVENTS))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["film.ts", "film.mp4"])
def test_so_it_is_with_the_shot_detector_itself(tmp_path, name):
    compare(film(tmp_path / name), ShotDetector(EVENTS))


@pytest.mark.slow
@pytest.mark.parametrize("fps", [60, 100])
def test_a_high_frame_rate_is_thinned_alike_in_every_part(tmp_path, fps):
    colours = [c for c in ("red", "blue", "green", "red", "blue") for _ in range(7 * fps)]
    path = write_film(tmp_path / "film.mp4", colours, fps=fps)
    compare(path, PictureChange(EVENTS), 12.0)


MPEG = {"codec": "mpeg2video", "fps": 25, "tick": Fraction(1, 25)}
FEW_KEYS = {"codec_options": {"g": "5000", "sc_threshold": "0"}}


def joined(path: Path) -> Path:
    """Write two films after one another, as `cat` does: the clock starts again."""
    parts = [film(path.with_name(f"{seed}.ts"), seed) for seed in (0, 1)]
    return join_bytes(parts, path)


def whole_seconds(path: Path) -> Path:
    """Write a film whose recorder counts whole seconds, and stands still for a minute twice: in
    the middle, and where a part begins."""
    stamps = [i // 10 * 1000 + 60_000 * ((i >= 170) + (i >= 405)) for i in range(FRAMES)]
    return write_stamped(path, film_colours(), stamps, fps=10)


IN_ORDER = {
    "program stream": (lambda folder: film(folder / "a.mpg", **MPEG), "now and then", 8.0),
    "raw stream": (lambda folder: film(folder / "a.h264"), "without a time stamp", 8.0),
    "no keyframes": (lambda folder: film(folder / "a.mp4", **FEW_KEYS), "fewer keyframes", 17.0),
    "joined": (lambda folder: joined(folder / "a.ts"), "twice", 38.0),
    "whole seconds": (lambda folder: whole_seconds(folder / "a.mkv"), "twice", 17.0),
}
"""Name -> how it is written, why it cannot be sought, length of parts."""


@pytest.mark.parametrize(
    "name",
    [n if n == "program stream" else pytest.param(n, marks=pytest.mark.slow) for n in IN_ORDER],
)
def test_parts_of_a_file_that_cannot_be_sought_hold_the_events_of_one_pass(tmp_path, name):
    write, why, part_s = IN_ORDER[name]
    compare_in_order(write(tmp_path), PictureChange(EVENTS), why, part_s)


@pytest.mark.slow
def test_noise_makes_scores_of_every_value_and_parts_have_the_same(tmp_path):
    """Every frame differs from the one before: scores lie everywhere, and are the same."""
    path = write_numbers(tmp_path / "n.mp4", count=1200, fps=25, size=(64, 48),
                         codec_options={"preset": "ultrafast", "g": "25"})  # fmt: skip
    compare(path, ShotDetector(EVENTS), 12.0)
