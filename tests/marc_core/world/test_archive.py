"""mp4 files and the ground truth file say the same as the video."""

from __future__ import annotations

import json
from pathlib import Path

import av
import numpy as np
import pytest

from marc_core.errors import ConfigError
from marc_core.world import WorldConfig, render_frames, sample_video, write_archive, write_mp4
from marc_core.world.mp4 import to_yuv420
from marc_core.world.sheet import contact_sheet, write_png
from marc_core.world.words import ACTIONS

SMALL = WorldConfig(size_px=48, scene_lengths_s=(2.2,), max_scenes=3)


def test_mp4_round_trip_keeps_count_rate_duration_and_picture(tmp_path: Path) -> None:
    video = sample_video(1, SMALL)
    path = write_mp4(video, tmp_path / "deep" / "video.mp4")
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.average_rate == video.fps
        frames = [(f.time, f.to_ndarray(format="rgb24")) for f in container.decode(stream)]
    times_s = [t for t, _ in frames]
    assert len(frames) == round(video.duration_s * video.fps)
    assert times_s == pytest.approx([i / video.fps for i in range(len(frames))])
    truth = render_frames(video, times_s).astype(int)
    error = np.abs(np.stack([f for _, f in frames]) - truth)
    assert error.mean() < 6
    assert sorted(p.name for p in path.parent.iterdir()) == ["video.json", "video.mp4"]
    assert json.loads(path.with_suffix(".json").read_text()) == {"synthetic": True}


def test_writing_again_gives_the_same_bytes(tmp_path: Path) -> None:
    # x264's macroblock tree breaks this on machines with AVX-512, at this size in many runs.
    video = sample_video(5, WorldConfig(size_px=112, scene_lengths_s=(2.2,), max_scenes=3))
    written = {write_mp4(video, tmp_path / "video.mp4").read_bytes() for _ in range(6)}
    assert len(written) == 1


def test_yuv_of_plain_colours_is_that_of_the_standard() -> None:
    for rgb, yuv in (((255, 255, 255), (235, 128, 128)), ((255, 0, 0), (82, 90, 240))):
        planes = to_yuv420(np.full((4, 4, 3), rgb, dtype=np.uint8)).ravel()
        assert set(planes[:16]) == {yuv[0]}
        assert set(planes[16:20]) == {yuv[1]}
        assert set(planes[20:]) == {yuv[2]}


def test_archive_is_complete_and_repeatable(tmp_path: Path) -> None:
    items = write_archive(tmp_path / "a", 2, 5, SMALL)
    write_archive(tmp_path / "b", 2, 5, SMALL)
    truth = json.loads((tmp_path / "a" / "ground_truth.json").read_text())
    assert [v["file"] for v in truth["videos"]] == [i.path.name for i in items]
    for item, entry in zip(items, truth["videos"], strict=True):
        assert entry["duration_s"] == item.video.duration_s
        assert [e["start_s"] for e in entry["events"]] == [e.start_s for e in item.video.events]
        assert all(e["caption"].startswith("In the ") for e in entry["events"])
        assert [q["text"] for q in entry["questions"]] == [q.text for q in item.questions]
    for file in (tmp_path / "a").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes()


def test_names_fit_one_event_of_the_whole_archive(tmp_path: Path) -> None:
    items = write_archive(tmp_path, 3, 0, SMALL, per_type=3)
    places = [e.background for i in items for e in i.video.events]
    asked = 0
    for question in (q for i in items for q in i.questions if q.type != "order"):
        for place in set(places):
            if question.text.endswith(f"the {place} scene?") and " in " not in question.text:
                assert places.count(place) == 1, question.text
                asked += 1
    assert asked > 0


def test_an_archive_needs_a_video(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="num_videos must be 1 or more"):
        write_archive(tmp_path, 0, 0)


def test_contact_sheet_has_a_row_for_every_action(tmp_path: Path) -> None:
    image, captions = contact_sheet()
    write_png(image, tmp_path / "sheet.png")
    with av.open(str(tmp_path / "sheet.png")) as container:
        decoded = next(container.decode(video=0)).to_ndarray(format="rgb24")
    assert (decoded == image).all()
    assert len(captions) == len(ACTIONS)
