from __future__ import annotations

import math

import numpy as np
import pytest

from marc_core.text.ocr import OcrReader, Written, in_lines, model_files
from tests.marc_core.text.signs import sign

pytest.importorskip("rapidocr", reason="the extra ocr is not installed")


@pytest.fixture(scope="module")
def reader() -> OcrReader:
    return OcrReader(side_px=480, min_confidence=0.6)


def test_lines_come_as_one_reads(reader):
    picture = sign("Platform 7 to Oslo", "departs 14:35", "mind the gap")
    found = reader.read(picture)
    assert [line.text for line in found] == ["Platform 7 to Oslo", "departs 14:35", "mind the gap"]
    assert all(line.confidence > 0.9 for line in found)
    tops = [line.quad[:, 1].min() for line in found]
    assert tops == sorted(tops)
    assert abs(found[0].quad[0, 0] - 640 / 12) < 12


def test_a_tilted_sign_is_read_by_its_own_lines(reader):
    picture = sign("Platform 7 to Oslo", "departs 14:35", "mind the gap", turned_deg=12)
    found = " ".join(line.text for line in reader.read(picture))
    assert found == "Platform 7 to Oslo departs 14:35 mind the gap"


def test_a_sign_on_its_side_or_head_is_read(reader):
    upright = sign("FIRE EXIT 24", "keep it clear", height_px=48)
    for quarters in (1, 2, 3):
        found = reader.read(np.ascontiguousarray(np.rot90(upright, quarters)))
        assert [line.text for line in found] == ["FIRE EXIT 24", "keep it clear"]


def test_a_picture_without_writing_has_no_lines(reader):
    noise = np.random.default_rng(0).integers(0, 255, (360, 640, 3)).astype(np.uint8)
    assert reader.read(np.full((360, 640, 3), 90, np.uint8)) == []
    assert reader.read(noise) == []
    assert reader.read(sign()) == []


def piece(text: str, x: float, y: float, width: float, height: float = 20.0, angle: float = 0.0):
    corners = np.array([[x, y], [x + width, y], [x + width, y + height], [x, y + height]])
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    return Written(text=text, confidence=0.9, quad=corners @ turn)


@pytest.mark.parametrize("angle", [0.0, 0.3, -0.3])
def test_pieces_of_a_row_are_one_line_where_they_are_near_and_as_high(angle):
    pieces = [
        piece("GATE", 10, 30, 60, angle=angle),
        piece("right", 400, 0, 60, angle=angle),
        piece("LIMIT", 84, 4, 60, angle=angle),
        piece("SPEED", 10, 0, 60, angle=angle),
        piece("12", 80, 32, 30, angle=angle),
        piece("HUGE", 10, 60, 60, height=60, angle=angle),
        piece("small", 75, 82, 60, height=16, angle=angle),
    ]
    texts = [line.text for line in in_lines(pieces)]
    assert texts == ["SPEED LIMIT", "right", "GATE 12", "HUGE", "small"]


def test_the_models_lie_in_the_package():
    assert {path.suffix for path in model_files().values()} == {".onnx"}
