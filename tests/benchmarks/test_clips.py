"""Clips of the benchmarks are what they are said to be."""

from __future__ import annotations

import av
import numpy as np
import pytest

from benchmarks.clips import render_clip, repeated, with_speech
from marc_core.video.audio import sound_blocks

SMALL = {"seconds": 6.0, "fps": 5, "size": (160, 90), "cut_every_s": 100.0}


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return render_clip(tmp_path_factory.mktemp("clips") / "clip.mp4", **SMALL)


def _times_s(path) -> list[float]:
    with av.open(str(path)) as container:
        return [frame.time for frame in container.decode(video=0)]


def test_a_repeated_clip_goes_on_without_a_gap(clip, tmp_path):
    times_s = _times_s(repeated(clip, tmp_path / "long.mp4", times=3))
    assert len(times_s) == 90
    assert np.diff(times_s) == pytest.approx(1 / 5)


def test_sentences_are_heard_and_the_pictures_stay(clip, tmp_path):
    spoken = with_speech(clip, tmp_path / "spoken.mp4", seconds=6.0)
    assert _times_s(spoken) == _times_s(clip)
    blocks = list(sound_blocks(spoken))
    loud_s = [b.start_s for b in blocks if np.abs(b.samples).max() > 0.1]
    assert min(loud_s) == pytest.approx(0.0, abs=0.1)  # from 0.5 s on, in blocks of a second
    assert 2.0 <= max(loud_s) <= 4.0
    assert blocks[-1].start_s + len(blocks[-1].samples) / 16_000 == pytest.approx(6.0, abs=0.2)


def test_a_sign_is_drawn_on_every_picture(clip, tmp_path):
    signed = render_clip(tmp_path / "sign.mp4", **SMALL, sign="EXIT")
    pictures = []
    for path in (clip, signed):
        with av.open(str(path)) as container:
            (*_, last) = container.decode(video=0)
            pictures.append(last.to_ndarray(format="rgb24").astype(int))
    moved = np.abs(pictures[0] - pictures[1]).max(axis=2) > 60
    rows, columns = np.nonzero(moved)
    assert moved.sum() > 100
    assert rows.min() >= 13
    assert rows.max() <= 24
    assert columns.min() >= 58
