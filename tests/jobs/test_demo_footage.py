"""`marc demo --footage`: clips whose words and times are known, found by them."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
from typer.testing import CliRunner

from jobs.demo_footage import CLIPS, SEARCHES, judge, spoken_folder
from jobs.footage import Clip, Shot, loud_span_s, spoken_samples, write_clip
from marc_core.config import VideoConfig
from marc_core.video import decode


def test_a_clip_shows_its_shots_and_says_its_words_in_time(tmp_path: Path):
    shots = (
        Shot(seconds=0.8, colours=("navy", "skyblue")),
        Shot(seconds=1.6, colours=("maroon", "gold"), spoken="harbour", said_after_s=0.5),
    )
    write_clip(Clip(name="a", seed=1, shots=shots), tmp_path / "a.mp4", spoken_folder())
    with decode(tmp_path / "a.mp4", VideoConfig()) as decoding:
        (chunk,) = decoding
    assert len(chunk.times_s) == 60
    changes = np.abs(np.diff(chunk.shot_frames.astype(float), axis=0)).mean((1, 2, 3))
    assert chunk.times_s[int(changes.argmax()) + 1] == pytest.approx(0.8)
    with av.open(str(tmp_path / "a.mp4")) as file:
        frames = [(f.time, f.to_ndarray()) for f in file.decode(audio=0)]
    heard = next(time_s for time_s, samples in frames if np.abs(samples).max() > 0.05)
    said_s = 1.3 + loud_span_s(spoken_samples(spoken_folder() / "harbour.ogg"))[0]
    assert heard == pytest.approx(said_s, abs=0.1)


def line(kind: str, span: tuple[float, float], late_s: float = 0.0) -> dict[str, Any]:
    return {"kind": kind, "start_s": span[0] + late_s, "end_s": span[1] + late_s, "text": "x"}


def test_a_find_is_right_by_clip_and_by_each_of_its_times():
    search = next(s for s in SEARCHES if len(s.true_spans_s()) == 2)
    spans = search.true_spans_s()
    hit = SimpleNamespace(
        uri=f"/x/{search.clip.name}.mp4", start_s=0.0, end_s=9.0, video_start_s=0.0
    )
    right = [line(kind, span, 0.4) for kind, span in spans.items()]
    assert judge(search, hit, right)["found"]
    assert not judge(search, hit, right[:1])["found"]
    late = [line(kind, span, 0.6) for kind, span in spans.items()]
    assert not judge(search, hit, late)["found"]
    elsewhere = SimpleNamespace(**{**vars(hit), "uri": "/x/other.mp4"})
    assert not judge(search, elsewhere, right)["found"]


def test_searches_are_by_spoken_word_by_written_word_and_by_both():
    kinds = [set(search.true_spans_s()) for search in SEARCHES]
    assert kinds == [{"speech"}, {"writing"}, {"speech", "writing"}]
    assert {search.clip for search in SEARCHES} == set(CLIPS)


@pytest.mark.slow
def test_the_demo_finds_all_of_them(tmp_path: Path):
    from jobs.cli import app

    pytest.importorskip("rapidocr")
    pytest.importorskip("moonshine_voice")
    result = CliRunner().invoke(app, ["demo", "--footage", "--folder", str(tmp_path), "--json"])
    assert result.exit_code == 0, result.output
    cases = json.loads(result.stdout)
    assert [case["found"] for case in cases] == [True] * len(SEARCHES)
    assert all(Path(case["picture"]).is_file() for case in cases)
