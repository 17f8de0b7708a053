"""Tables: VSI-Bench's eight tasks, Video-R1's two means."""

import pytest

from marc_core.evaluation.results.aggregate import Scored, summarise, vsi_weights


def row(task: str, score: float, kind: str = "multiple choice", benchmark: str = "vsi-bench",
        video: str = "v") -> Scored:  # fmt: skip
    return Scored(
        problem_id="0", benchmark=benchmark, task=task, problem_type=kind, video=video, score=score
    )


VSI = [
    row("object_rel_direction_easy", 1.0),
    row("object_rel_direction_medium", 0.0),
    row("object_rel_direction_hard", 0.0),
    row("object_rel_direction_hard", 1.0),
    row("object_counting", 0.6, "regression"),
    row("route_planning", 1.0),
    row("route_planning", 0.0),
]


def test_official_vsi_overall_is_the_mean_of_tasks_with_one_direction() -> None:
    direction = (1.0 + 0.0 + 0.5) / 3
    overall = summarise(VSI, "official")["overall"]
    assert overall["mean"] == pytest.approx((direction + 0.6 + 0.5) / 3)
    assert overall["low"] <= overall["mean"] <= overall["high"]
    assert sum(vsi_weights(VSI).values()) == pytest.approx(3.0)


def test_video_r1_keeps_regression_apart() -> None:
    found = summarise(VSI, "video-r1")
    assert found["mean_acc"]["mean"] == pytest.approx(0.5)
    assert found["mean_mra"]["mean"] == pytest.approx(0.6)
    assert found["overall"]["mean"] == pytest.approx(3.6 / 7)


def test_other_benchmarks_average_over_questions() -> None:
    rows = [row("a", 1.0, benchmark="mvbench")] * 3 + [row("b", 0.0, benchmark="mvbench")]
    found = summarise(rows, "official")
    assert found["overall"]["mean"] == 0.75
    assert found["tasks"]["a"]["num"] == 3
    assert found["mean_mra"] is None


def test_empty_input_has_empty_tables() -> None:
    assert summarise([], "official")["overall"] is None


def test_clustered_intervals_are_asked_for() -> None:
    rows = [row("a", float(v % 2), benchmark="mvbench", video=str(v)) for v in range(6)] * 8
    narrow = summarise(rows, "official")["overall"]
    wide = summarise(rows, "official", by_video=True)["overall"]
    assert wide["high"] - wide["low"] > narrow["high"] - narrow["low"]
