"""A pass over a file that cannot be sought, in parts: what is asked of it, and where it ends."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from marc_core.config import EventConfig, VideoConfig
from marc_core.errors import DecoderCrashError, PartBeyondEndError
from marc_core.in_order import InOrder
from marc_core.indexing import decode_video
from marc_core.video import IsolatedDecoder
from marc_core.video.layout import parts_in_order
from tests.marc_core.films import film
from tests.marc_core.memories import PictureChange

EVENTS = EventConfig(max_event_s=5.0)
VIDEO = VideoConfig(chunk_frames=64, part_s=10.0)


@pytest.fixture(scope="module")
def program_stream(tmp_path_factory):
    path = tmp_path_factory.mktemp("in_order") / "a.mpg"
    return str(film(path, codec="mpeg2video", fps=25, tick=Fraction(1, 25)))


@pytest.fixture(scope="module")
def whole(program_stream):
    with IsolatedDecoder(VIDEO) as decoder:
        return decode_video(program_stream, decoder, PictureChange(EVENTS))


def parts_at(whole, *seconds):
    start_s = whole.summary.start_s
    return parts_in_order(start_s, start_s + np.array(seconds, np.float64))


def test_a_part_is_the_same_whether_those_before_it_are_asked_for_or_not(program_stream, whole):
    parts = parts_at(whole, 7.01, 15.0, 24.99)
    with InOrder(program_stream, VIDEO, PictureChange(EVENTS)) as running:
        expected = [running.part(part) for part in parts]
    with InOrder(program_stream, VIDEO, PictureChange(EVENTS)) as running:
        found = {i: running.part(parts[i]) for i in (1, 3)}
        assert not running.reaches(parts[2])
    for i, seen in found.items():
        np.testing.assert_array_equal(seen.times_s, expected[i].times_s)
        np.testing.assert_array_equal(seen.shot_scores, expected[i].shot_scores)
        np.testing.assert_array_equal(seen.sampled_frames, expected[i].sampled_frames)
        assert (seen.span, seen.head, seen.tail) == (
            expected[i].span, expected[i].head, expected[i].tail,
        )  # fmt: skip
    assert expected[3].summary.end_s == whole.summary.end_s
    assert sum(seen.summary.num_frames for seen in expected) == whole.summary.num_frames


def test_parts_that_the_packets_promised_and_the_file_has_not(program_stream, whole):
    parts = parts_at(whole, 20.0, 60.0, 70.0)
    with InOrder(program_stream, VIDEO, PictureChange(EVENTS)) as running:
        seen = [running.part(part) for part in parts[:2]]
        for part in parts[2:]:
            with pytest.raises(PartBeyondEndError, match="ends before its part"):
                running.part(part)
    assert sum(s.summary.num_frames for s in seen) == whole.summary.num_frames
    assert seen[1].summary.end_s == whole.summary.end_s
    assert seen[1].tail is None


def test_a_last_part_does_not_grow_without_bounds(program_stream, whole):
    config = replace(VIDEO, max_sampled_frames=4)  # parts of 4 s: 12 samples, some of the zone
    with InOrder(program_stream, config, PictureChange(EVENTS)) as running:
        seen = running.part(parts_at(whole, 4.0)[1])
    assert 9 <= len(seen.sampled_index) < 20 < whole.summary.end_s - 4.0
    (warning,) = seen.summary.warnings
    assert "longer than its packets promise" in warning


def test_what_ends_a_pass_is_the_reason_for_all_later_parts(program_stream, whole, monkeypatch):
    parts = parts_at(whole, 7.0, 15.0)
    with InOrder(program_stream, VIDEO, PictureChange(EVENTS)) as running:
        running.part(parts[0])

        def crash(*_):
            raise DecoderCrashError("it died")

        monkeypatch.setattr(running._pass, "_more", crash)
        for part in parts[1:]:
            with pytest.raises(DecoderCrashError, match="it died"):
                running.part(part)
        assert running.decoders[0].child_pid is None
