"""One video's questions under every variant: the tiny preset's tower, an engine that echoes."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from marc_core.config import CompressConfig, MethodConfig, StudentConfig, TeacherConfig
from marc_core.evaluation.config import TEACHER, EvaluateConfig, VariantConfig
from marc_core.evaluation.variants.evaluator import Evaluator
from marc_core.evaluation.variants.prompts import prompt_style
from marc_core.evaluation.variants.readers import Reader
from marc_core.evaluation.variants.sources import FootageSource, by_clip
from marc_core.models.checkpoints import local_directory
from marc_core.models.student_files import StudentFiles
from marc_core.models.vision_tower import VisionTower
from tests.marc_core.engines import EchoEngine

ARMS = {
    "teacher": TEACHER,
    "marc": VariantConfig(),
    "all": VariantConfig(events="all"),
    "oracle": VariantConfig(events="oracle", mode="weighted"),
    "uniform": VariantConfig(events="all", mode="plain", baseline="uniform_frame"),
    "fewer": VariantConfig(events="all", mode="plain", baseline="fewer_frames"),
    "low": VariantConfig(events="all", mode="plain", baseline="low_resolution"),
    "random": VariantConfig(events="all", mode="plain", baseline="random_groups"),
    "moviechat": VariantConfig(events="all", mode="plain", baseline="moviechat"),
    "vidcom2": VariantConfig(events="all", mode="plain", baseline="vidcom2"),
    "two": VariantConfig(events="all", budget_tokens=18),
}


@pytest.fixture(scope="module")
def towers() -> dict[str, VisionTower]:
    """Loaded once for the module, like in a worker."""
    torch.set_num_threads(1)
    return {}


@pytest.fixture
def make_evaluator(encoder: Any, make_loader: Any, towers: dict[str, VisionTower]) -> Any:
    def make(variants: dict[str, VariantConfig], loader: Any = None, **settings: Any) -> Evaluator:
        student = StudentConfig(frame_max_pixels=84 * 84)
        config = EvaluateConfig(variants=variants, student=student, **settings)
        reader = Reader(student, EchoEngine(), StudentFiles(student), towers)
        source = FootageSource(config, loader or make_loader(), encoder, reader)
        return Evaluator(config, {"student": reader, "teacher": reader}, encoder, source)

    return make


def test_every_variant_answers_within_its_budget(make_evaluator: Any, make_sample: Any) -> None:
    samples = [make_sample(str(i)) for i in range(3)]
    predictions = make_evaluator(ARMS).run(samples)
    assert len(predictions) == 3 * len(ARMS)
    tokens = {o.variant: o.visual_tokens for o in predictions}
    a_group = tokens["marc"]
    assert a_group == 9
    assert tokens["teacher"] == 8 * a_group
    assert tokens["two"] == 2 * a_group
    assert tokens["low"] <= a_group
    for variant in ("all", "oracle", "uniform", "fewer", "random", "moviechat", "vidcom2"):
        assert tokens[variant] == a_group, variant
    before = {o.variant: o.visual_tokens_before for o in predictions}
    assert before["teacher"] == before["all"] == before["uniform"] == 8 * a_group
    assert before["marc"] == 6 * a_group
    assert all(o.status == "answered" and set(o.scores) == {"official", "video-r1"}
               for o in predictions)  # fmt: skip


def test_questions_that_name_no_event_have_a_budget_of_their_own(
    make_evaluator: Any, make_sample: Any
) -> None:
    own: dict[str, Any] = {"budget_tokens": 4, "unnamed_budget_tokens": 12}
    variants = {
        "named": VariantConfig(**own),
        "unnamed": VariantConfig(events="all", **own),
        "run": VariantConfig(),
    }
    compress = CompressConfig(budget_tokens=5)
    predictions = make_evaluator(variants, compress=compress).run([make_sample()])
    assert [p.visual_tokens for p in predictions] == [4, 12, 5]


def test_retrieval_shows_events_in_order_of_time_and_is_scored(
    make_evaluator: Any, make_sample: Any
) -> None:
    predictions = make_evaluator(
        {"marc": VariantConfig(), "oracle": VariantConfig(events="oracle")}
    ).run([make_sample()])
    marc, oracle = predictions
    assert 2 in marc.events
    assert marc.events == tuple(sorted(marc.events))
    assert len(marc.events) == 3
    assert (marc.evidence_rank, marc.evidence_shown) == (1, 1.0)
    assert marc.recall_by_chance == {"1": 0.25, "3": 0.75}
    assert oracle.events == (2,)
    assert oracle.evidence_rank == 0


def test_a_video_is_loaded_and_encoded_once(
    make_evaluator: Any, make_sample: Any, make_loader: Any, monkeypatch: Any
) -> None:
    loader = make_loader()
    variants = {
        "a": VariantConfig(),
        "b": VariantConfig(mode="weighted"),
        "oracle": VariantConfig(model="teacher", events="oracle", mode="none"),
        "teacher": TEACHER,
    }
    evaluator = make_evaluator(variants, loader)
    tower = evaluator.readers["student"].load_tower()
    encoded: list[int] = []
    encode = tower.encode_events
    monkeypatch.setattr(tower, "encode_events", lambda e: encoded.append(len(e)) or encode(e))
    evaluator.run([make_sample("0"), make_sample("1")])
    assert loader.loaded == ["one.mp4"]
    # One tower for student and teacher: three retrieved events, and the fourth for the teacher.
    assert sum(encoded) == 4


def test_batches_answer_as_single_questions(make_evaluator: Any, make_sample: Any) -> None:
    samples = [make_sample(str(i), problem="what is the " + w, problem_type="free-form")
               for i, w in enumerate(("red", "blue", "red blue red", "A B C D"))]  # fmt: skip
    variants = {"teacher": TEACHER, "marc": VariantConfig()}
    together = make_evaluator(variants, batch_size=4).run(samples)
    alone = make_evaluator(variants, batch_size=1).run(samples)
    assert [o.text for o in together] == [o.text for o in alone]  # digits of the evidence's key
    assert len({o.text for o in together}) == len(together)


def test_missing_and_broken_videos_are_rows(make_evaluator: Any, make_sample: Any,
                                            make_loader: Any) -> None:  # fmt: skip
    evaluator = make_evaluator(
        {"a": VariantConfig(), "b": TEACHER}, make_loader(broken=["bad.mp4"])
    )
    missing = evaluator.run([make_sample(path="missing.mp4")])
    broken = evaluator.run([make_sample(path="bad.mp4")])
    assert [(o.variant, o.status, o.scores) for o in missing] == [("a", "missing", {}),
                                                              ("b", "missing", {})]  # fmt: skip
    assert broken[0].status == "failed"
    assert broken[0].error == "unreadable: 'bad.mp4' is broken."


def test_questions_about_a_clip_see_only_the_clip(make_evaluator: Any, make_sample: Any) -> None:
    whole = make_sample("0")
    part = make_sample("1", clip_start_s=5.0, clip_end_s=9.0)
    evaluator = make_evaluator({"teacher": TEACHER})
    predictions = evaluator.run([whole, part])
    assert [o.visual_tokens for o in predictions] == [8 * 9, 3 * 9]  # frames 5, 6, 7 and 8
    assert [len(g) for g in by_clip([whole, part, dataclasses.replace(whole, problem_id="2")])] == [
        2, 1,
    ]  # fmt: skip


def test_the_probe_times_one_question_alone(make_evaluator: Any, make_sample: Any) -> None:
    first, second = make_evaluator({"marc": VariantConfig()}).run(
        [make_sample("0"), make_sample("1")], probe=True
    )
    assert {"prefill", "generate", "vision", "compress"} <= set(first.alone_s)
    assert second.alone_s == {}
    assert first.timings_s["decode"] == pytest.approx(0.125)
    assert first.kv_cache_bytes == 10 * (first.prompt_tokens + first.generated_tokens)
    assert first.peak_rss_bytes > 10 * 1024**2


def test_a_variants_time_does_not_depend_on_who_asked_first(
    make_evaluator: Any, make_sample: Any
) -> None:
    variants = {"a": VariantConfig(), "b": VariantConfig(mode="mixed")}
    first, second = make_evaluator(variants).run([make_sample()])
    assert first.timings_s["vision"] == second.timings_s["vision"] > 0
    assert {"decode", "embed", "retrieve", "vision", "compress", "generate"} <= set(
        second.timings_s
    )


def test_a_question_that_cannot_be_asked_is_a_row(make_evaluator: Any, make_sample: Any) -> None:
    too_small = {"small": VariantConfig(mode="plain", budget_tokens=8), "marc": VariantConfig()}
    small, marc = make_evaluator(too_small).run([make_sample()])
    assert (small.status, marc.status) == ("failed", "answered")
    assert "at least one frame's tokens, 9" in small.error


def test_prompt_style_follows_the_students_own_file(tmp_path: Path) -> None:
    assert prompt_style(EvaluateConfig()) == "direct"
    student = shutil.copytree(local_directory("student", "preset:tiny", None), tmp_path / "student")
    by_path = EvaluateConfig(student=StudentConfig(model=str(student)))
    assert prompt_style(by_path) == "direct"  # retrained and given by path, it is asked alike
    (student / "marc.json").unlink()
    assert prompt_style(by_path) == "video-r1"
    assert prompt_style(dataclasses.replace(by_path, prompt="direct")) == "direct"
    assert prompt_style(dataclasses.replace(by_path, use_memory=True, only_variants=("marc",))) == (
        "direct"
    )


def test_student_and_teacher_are_loaded_once_where_they_are_the_same(tmp_path: Path) -> None:
    config = MethodConfig()
    assert config.teacher_model() == config.student
    other = MethodConfig(teacher=TeacherConfig(model="some/where", revision="abc"))
    assert other.teacher_model().model == "some/where"
    assert other.teacher_model().revision == "abc"
    assert other.teacher_model().max_frames == other.student.max_frames
