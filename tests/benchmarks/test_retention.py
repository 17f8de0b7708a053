"""A variant is held against the teacher on the questions that both have answered."""

from __future__ import annotations

import pyarrow.parquet as pq

from benchmarks.retention import against, draw, read, tables
from marc_core.evaluation.results.prediction import ANSWERED, Prediction, to_table


def _answers(variant, right, *, tokens=9):
    return {
        f"{number}": Prediction(
            problem_id=f"{number}", variant=variant, video=f"v{number // 4}", benchmark="world",
            task=("colour", "when")[number % 2], tags=(), problem_type="free-form",
            status=ANSWERED, scores={"official": float(value)}, visual_tokens=tokens,
            timings_s={"generate": 0.01}, kv_cache_bytes=2048,
        )
        for number, value in right.items()
    }  # fmt: skip


def test_retention_is_the_share_of_what_the_teacher_gets_right(tmp_path):
    teacher = _answers("teacher", dict.fromkeys(range(40), 1), tokens=100)
    student = _answers("marc", {n: n % 4 != 1 for n in range(50)})  # ten the teacher lacks
    found = against(student, teacher)
    assert (found["questions"], found["videos"], found["kv_cache_kib"]) == (40, 10, 2.0)
    assert found["types"]["all"]["retention"] == [75.0, 75.0, 75.0]
    assert found["types"]["when"]["retention"][0] == 50.0
    assert found["types"]["colour"] == {
        "questions": 20, "accuracy": [100.0] * 3, "teacher": [100.0] * 3, "retention": [100.0] * 3,
    }  # fmt: skip
    assert "| marc | 40 | 9.00 | 75.0 (75.0 - 75.0) | 75.0 (75.0 - 75.0) | when 50 |" in tables(
        {"marc": found}
    )
    draw({"marc": found}, tmp_path / "picture.svg")
    assert "<!-- marc -->" in (tmp_path / "picture.svg").read_text()


def test_a_kept_teacher_is_read_like_its_run(tmp_path):
    teacher = _answers("teacher", {n: n % 3 for n in range(9)}, tokens=100)
    kept, shard = tmp_path / "teacher.parquet", tmp_path / "run" / "shards" / "a" / "b.parquet"
    shard.parent.mkdir(parents=True)
    for file in (kept, shard):
        pq.write_table(to_table(list(teacher.values())), file)
    assert read([kept]) == read([tmp_path / "run"]) == {"teacher": teacher}


def test_intervals_draw_whole_videos():
    teacher = _answers("teacher", dict.fromkeys(range(80), 1))
    student = _answers("marc", {n: n >= 20 for n in range(80)})  # five videos of twenty are lost
    value, low, high = against(student, teacher)["types"]["all"]["retention"]
    assert value == 75.0
    assert low < 60 < 90 < high
