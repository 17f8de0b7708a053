"""Edit lists: what they hide is not shown, and said where it is much; length 0 hides nothing."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from benchmarks.odd_media import read_number, write_numbers
from marc_core.config import VideoConfig
from marc_core.video import decode, read_frames

CONFIG = VideoConfig()


def edited(path: Path, *, length_s: float, from_s: float | None = None, order="0") -> Path:
    """Write 30 numbered frames at 10 fps of which an edit shows so much."""
    write_numbers(path, codec_options={"g": "5", "bf": order})
    data = bytearray(path.read_bytes())
    mvhd, mdhd, at = (data.find(name) for name in (b"mvhd", b"mdhd", b"elst"))
    assert struct.unpack_from(">II", data, at + 4) == (0, 1), "one edit, version 0"
    (movie_hz,), (media_hz,) = (struct.unpack_from(">I", data, a + 16) for a in (mvhd, mdhd))
    struct.pack_into(">I", data, at + 12, round(length_s * movie_hz))
    if from_s is not None:
        struct.pack_into(">i", data, at + 16, round(from_s * media_hz))
    path.write_bytes(data)
    return path


def read(path: Path):
    """Return (numbers of frames, times, warnings)."""
    with decode(path, CONFIG) as decoding:
        chunks = list(decoding)
    numbers = [read_number(shot) for chunk in chunks for shot in chunk.shot_frames]
    return numbers, np.concatenate([c.times_s for c in chunks]), decoding.summary.warnings


@pytest.mark.parametrize("order", ["0", "2"])
@pytest.mark.parametrize("suffix", ["mp4", "mov"])
def test_an_edit_of_length_0_shows_the_whole_track(tmp_path: Path, suffix, order):
    path = edited(tmp_path / f"clip.{suffix}", length_s=0.0, order=order)
    numbers, times_s, warnings = read(path)
    assert numbers == list(range(30))
    np.testing.assert_allclose(times_s, np.arange(30) / 10, atol=1e-6)
    assert warnings == ()
    (frame,) = read_frames(path, [times_s[20]], CONFIG)
    assert read_number(frame) == 20


@pytest.mark.parametrize(
    ("length_s", "from_s", "shown"),
    [(1.0, None, range(10)), (1.0, 1.0, range(10, 20)), (2.0, 0.7, range(7, 27))],
)
def test_an_edit_that_hides_much_is_said(tmp_path: Path, length_s, from_s, shown):
    path = edited(tmp_path / "clip.mp4", length_s=length_s, from_s=from_s)
    numbers, times_s, warnings = read(path)
    assert numbers == list(shown)
    assert times_s[0] == 0.0
    hidden = 30 - len(shown)
    assert warnings == (f"The file's edit list hides {hidden} of 30 frames, as in players.",)


def test_an_edit_that_hides_little_is_not_worth_a_word(tmp_path: Path):
    numbers, _, warnings = read(edited(tmp_path / "clip.mp4", length_s=2.8))
    assert numbers == list(range(28))
    assert warnings == ()
