from __future__ import annotations

import socket
from pathlib import Path

import numpy as np
import pytest

from marc_core.config import MethodConfig, TextConfig
from marc_core.errors import UnreadableVideoError
from marc_core.text.ocr import Written
from marc_core.text.stage import Said, Span
from marc_core.text.writing import Seen, make_stage, merged, stretches_of
from marc_core.video.pictures import Stretch
from tests.marc_core.text.signs import sign, write_shots

pytest.importorskip("rapidocr", reason="the extra ocr is not installed")


def span(event_id: str, start_s: float, end_s: float) -> Span:
    times_s = np.arange(np.ceil(start_s), end_s).tolist()
    return Span(event_id=event_id, start_s=start_s, end_s=end_s, frame_times_s=tuple(times_s))


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args, **kwargs):
        raise AssertionError(f"the network was asked for: {args}")

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def test_signs_are_found_in_their_events_without_a_network(tmp_path: Path, no_network):
    shots = [
        (sign("Harbour ferry", "leaves at 9:40", height_px=28), 4.0),
        (sign(), 3.0),
        (sign("NO ENTRY", height_px=40), 7.0),
    ]
    path = write_shots(tmp_path / "clip.mp4", shots, keyframes=[7.0])
    spans = [span("a", 0, 4), span("b", 4, 7), span("c", 7, 14)]
    stage = make_stage(MethodConfig())
    assert stage.kind == "writing"
    result = stage.texts(str(path), spans)
    assert [(s.text, s.start_s, s.end_s) for s in result.lines] == [
        ("Harbour ferry", 0, 4),
        ("leaves at 9:40", 0, 4),
        ("NO ENTRY", 7, 14),
    ]
    assert all(s.confidence > 0.9 for s in result.lines)
    assert result.seconds == 14
    with pytest.raises(UnreadableVideoError):
        stage.texts(str(tmp_path / "none.mp4"), spans)
    stage.close()


def test_the_fingerprint_tells_settings_apart():
    stages = [
        make_stage(MethodConfig(text=TextConfig(writing_side_px=side))) for side in (480, 480, 736)
    ]
    first, again, other = (stage.fingerprint for stage in stages)
    assert first == again != other


@pytest.mark.parametrize(
    ("start_s", "end_s", "most", "edges"),
    [(0, 4, 2, [0, 4]), (0, 10, 2, [0, 4.5, 10]), (20.5, 60.5, 4, [20.5, 30.5, 40.5, 50.5, 60.5])],
)
def test_stretches_tile_the_event_and_hold_their_frame(start_s, end_s, most, edges):
    found = stretches_of(span("a", start_s, end_s), most)
    assert [s.start_s for s in found] + [found[-1].end_s] == edges
    assert all(s.start_s <= s.time_s < s.end_s for s in found)


def test_an_event_of_one_frame_is_one_stretch():
    only = Span(event_id="a", start_s=0, end_s=30, frame_times_s=(2.0,))
    assert stretches_of(only, 2) == [Stretch(0, 30, 2.0)]


def look(start_s: float, *texts: tuple[str, float]) -> Seen:
    lines = [Written(text=t, confidence=c, quad=np.zeros((4, 2))) for t, c in texts]
    return Seen(Stretch(start_s, start_s + 5, start_s + 2), start_s + 2, tuple(lines))


def test_lines_seen_again_are_one_by_the_surest_reading():
    seen = [
        look(5, ("EMERGENCY EXIT", 0.95), ("Gate 13", 0.9)),
        look(0, ("EMERGENCV EXIT", 0.7), ("Gate 12", 0.9), ("Gate 12", 0.8)),
        look(10, ("Cafe", 0.9)),
    ]
    assert merged(seen) == [
        Said(start_s=0, end_s=10, text="EMERGENCY EXIT", confidence=0.95),
        Said(start_s=0, end_s=5, text="Gate 12", confidence=0.9),
        Said(start_s=5, end_s=10, text="Gate 13", confidence=0.9),
        Said(start_s=10, end_s=15, text="Cafe", confidence=0.9),
    ]
