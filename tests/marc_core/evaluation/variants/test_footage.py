"""Pictures as footage, and clips of videos."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from marc_core.errors import SourceError
from marc_core.evaluation.variants.footage import clip, load_image


def test_a_picture_is_one_event_of_one_frame(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    footage = load_image(str(tmp_path / "a.png"))
    assert np.array_equal(footage.frames_SHWC[0], pixels)
    assert len(footage.spans) == len(footage.positions) == 1


def test_a_broken_picture_is_a_source_error(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("no picture")
    with pytest.raises(SourceError, match="cannot be read as an image"):
        load_image(str(tmp_path / "a.png"))


def test_clips_cut_events_and_keep_one_frame_at_least(make_loader: Any, make_sample: Any) -> None:
    footage = make_loader().load("one.mp4")
    assert clip(footage, make_sample()) is footage
    part = clip(footage, make_sample(clip_start_s=2.0, clip_end_s=6.0))
    assert part.spans == ((2.0, 4.0), (4.0, 6.0))
    assert [p.tolist() for p in part.positions] == [[2, 3], [4, 5]]
    tiny = clip(footage, make_sample(clip_start_s=6.2, clip_end_s=6.6))
    assert [p.tolist() for p in tiny.positions] == [[6]]
    tail = clip(footage, make_sample(clip_start_s=12.0))
    assert np.concatenate(tail.positions).tolist() == [12, 13, 14, 15]


def test_footage_is_immutable(make_loader: Any) -> None:
    footage = make_loader().load("one.mp4")
    with pytest.raises(dataclasses.FrozenInstanceError):
        footage.spans = ()
