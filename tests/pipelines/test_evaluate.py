"""The evaluation chain with the tiny preset; once on a real Ray, see conftest.py."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from marc_core.config import IndexConfig, load_config
from marc_core.evaluation.config import EvaluateConfig
from marc_core.evaluation.datasets.questions import load_questions
from marc_core.evaluation.results.compare import compare_results
from marc_core.evaluation.results.prediction import FAILED, answered, unanswered
from marc_core.models.checkpoints import local_directory
from pipelines.evaluate import (
    by_video,
    complete,
    evaluate_benchmark,
    plan_work,
    pool_size,
    sample_from_json,
    without_outcome,
)
from pipelines.index import index_archive

SMALL = ("student.max_new_tokens=2", "resamples=50", "workers=1", "probe_videos=1")


def configure(output: Path, *overrides: str) -> EvaluateConfig:
    return load_config(
        EvaluateConfig, preset="tiny", overrides=[f"output='{output}'", *SMALL, *overrides]
    )


def test_work_is_one_row_a_video_without_what_is_answered() -> None:
    config = EvaluateConfig(questions=30)
    samples, _ = load_questions(config)
    rows = plan_work(samples, [], config)
    assert len(rows) == len({s.path for s in samples}) == 3
    back = [sample_from_json(s) for r in rows for s in json.loads(r["samples"])]
    assert back == samples
    first = by_video(samples)[0]
    known = [answered(s, variant, "A") for s in first for variant in ("teacher", "marc")]
    assert len(plan_work(samples, known, config)) == 2
    half = [o for o in known if o.variant == "teacher"]
    assert plan_work(samples, half, config)[0]["variants"] == ["marc"]
    failed = [unanswered(s, variant, FAILED, "x") for s in first for variant in ("teacher", "marc")]
    assert len(plan_work(samples, failed, config)) == 3


def test_only_videos_without_an_outcome_go_into_a_second_round() -> None:
    config = EvaluateConfig(questions=30)
    samples, _ = load_questions(config)
    todo = plan_work(samples, [], config)
    first, second, _ = by_video(samples)
    variants = ("teacher", "marc")
    known = [unanswered(s, variant, FAILED, "x") for s in first for variant in variants]
    known += [answered(s, variant, "A") for s in second for variant in variants][1:]
    assert without_outcome(todo, known) == todo[1:]
    assert without_outcome(todo, []) == todo


def test_lost_questions_become_rows() -> None:
    config = EvaluateConfig(questions=3)
    samples, _ = load_questions(config)
    predictions = complete(samples, [answered(samples[0], "marc", "A")], config)
    assert len(predictions) == 6
    assert sum(o.error.startswith("worker_lost") for o in predictions) == 5


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_world_end_to_end_and_resumed_on_ray(tmp_path: Path) -> None:
    config = configure(tmp_path, "questions=20", "only_variants=[marc]")
    seen: list[tuple[int, int, int]] = []
    first = evaluate_benchmark(config, lambda *counts: seen.append(counts))
    marc = first["variants"]["marc"]
    assert (marc["questions"], marc["answered"]) == (20, 20)
    assert marc["tokens"]["visual_tokens"] == 9
    assert seen[-1] == (2, 0, 2)
    assert first["manifest"]["student_fingerprint"]
    shards = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.parquet")}
    assert len(shards) == 2

    again = evaluate_benchmark(config)
    assert again["rows"] == first["rows"]
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.parquet")} == shards


@pytest.mark.usefixtures("chains")
def test_lost_shards_are_made_again_and_variants_are_added(tmp_path: Path) -> None:
    config = configure(tmp_path, "questions=20", "only_variants=[marc]")
    first = evaluate_benchmark(config)
    next(tmp_path.rglob("*.parquet")).unlink()
    both = evaluate_benchmark(dataclasses.replace(config, only_variants=("marc", "teacher")))
    assert _texts(both, "marc") == _texts(first)
    assert both["variants"]["teacher"]["answered"] == 20
    assert len(list(tmp_path.rglob("*.parquet"))) == 3  # one again with both, one added
    found = compare_results(first, both)
    assert found["variants"][0]["overall"]["difference"] == 0


@pytest.mark.usefixtures("chains")
def test_files_and_missing_files(tmp_path: Path, archive: Path) -> None:
    names = ["good0.mp4", "good1.mp4", "text.mp4", "gone.mp4"]
    rows = [
        {"problem_id": i, "problem": "What moves?", "data_type": "video",
         "problem_type": "multiple choice", "options": ["A. cat", "B. dog"],
         "solution": "<answer>B</answer>", "path": f"./{name}"}
        for i, name in enumerate(names)
    ]  # fmt: skip
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    result = evaluate_benchmark(
        configure(
            tmp_path / "out", "benchmark=mvbench", f"data='{tmp_path / 'rows.json'}'",
            f"videos='{archive}'", "only_variants=[marc]",
        )
    )  # fmt: skip
    marc = result["variants"]["marc"]
    assert (marc["answered"], marc["missing"], marc["failed"]) == (2, 1, {"unreadable": 1})
    assert {"decode", "embed", "vision", "generate"} <= set(marc["seconds"])
    broken = [r for r in result["rows"] if r["status"] == "failed"]
    assert "text.mp4" in broken[0]["error"]


@pytest.mark.usefixtures("chains")
def test_from_a_memory_with_files_of_the_world(tmp_path: Path) -> None:
    folder, memory = tmp_path / "videos", tmp_path / "memory"
    config = configure(
        tmp_path / "out", "questions=16", f"videos='{folder}'", f"memory.uri='{memory}'",
        "use_memory=true", "only_variants=[marc]", "retrieve.bypass_when_fits=false",
    )  # fmt: skip
    samples, _ = load_questions(config)
    assert {Path(s.path) for s in samples} == set(folder.glob("*.mp4"))
    gone = max(folder.glob("*.mp4"))
    index = [f"archive=['{folder / min(p.name for p in folder.glob('*.mp4'))}']"]
    index_archive(load_config(
        IndexConfig, preset="tiny", overrides=[*index, f"memory.uri='{memory}'"]
    ))  # fmt: skip
    result = evaluate_benchmark(config)
    marc = result["variants"]["marc"]
    missing = sum(Path(s.path) == gone for s in samples)
    assert (marc["answered"], marc["missing"]) == (16 - missing, missing)
    assert {"retrieve", "features", "compress", "generate"} <= set(marc["seconds"])
    assert marc["tokens"]["visual_tokens"] == 9
    assert marc["retrieval"]["named"] > 0


@pytest.mark.usefixtures("chains")
def test_pool_has_an_actor_a_cpu_for_small_students_only(tmp_path: Path) -> None:
    config = configure(tmp_path, "workers=0")
    assert pool_size(config, 10) == (2, 0.9, 0.0)
    assert pool_size(config, 1)[0] == 1
    directory = local_directory("student", config.student.model, None)
    shutil.copytree(directory, tmp_path / "general")
    (tmp_path / "general" / "marc.json").unlink()
    large = dataclasses.replace(config.student, model=str(tmp_path / "general"))
    assert pool_size(dataclasses.replace(config, student=large), 10)[0] == 1


def _texts(result: dict[str, Any], variant: str = "marc") -> list[str]:
    return [r["text"] for r in result["rows"] if r["variant"] == variant]
