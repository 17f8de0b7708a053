"""One video's questions under every arm, with a tiny random student."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from marc_core.evaluation.config import TEACHER, ArmConfig, EvaluateConfig
from marc_core.evaluation.variants.evaluator import Evaluator, by_clip
from marc_core.evaluation.variants.prompts import prompt_style

ARMS = {
    "teacher": TEACHER,
    "marc": ArmConfig(),
    "all": ArmConfig(events="all"),
    "oracle": ArmConfig(events="oracle", mode="weighted"),
    "uniform": ArmConfig(events="all", control="uniform_frame"),
    "fewer": ArmConfig(events="all", control="fewer_frames"),
    "low": ArmConfig(events="all", control="low_resolution"),
    "random": ArmConfig(events="all", control="random_groups"),
    "moviechat": ArmConfig(events="all", control="moviechat"),
    "vidcom2": ArmConfig(events="all", control="vidcom2"),
    "two": ArmConfig(events="all", budget_groups=2),
}


@pytest.fixture
def make_evaluator(make_student: Callable[..., Any], encoder: Any, make_loader: Any) -> Any:
    def make(arms: dict[str, ArmConfig], loader: Any = None, **settings: Any) -> Evaluator:
        config = EvaluateConfig(arms=arms, **settings)
        student = make_student(frame_max_pixels=24 * 32, max_new_tokens=3)
        return Evaluator(config, student, encoder, loader or make_loader())

    return make


def test_every_arm_answers_within_its_budget(make_evaluator: Any, make_sample: Any) -> None:
    samples = [make_sample(str(i)) for i in range(3)]
    predictions = make_evaluator(ARMS).run(samples)
    assert len(predictions) == 3 * len(ARMS)
    tokens = {o.arm: o.visual_tokens for o in predictions}
    a_group = tokens["marc"]
    assert a_group == 12  # 24 x 32 pixels in tokens of 8 x 8
    assert tokens["teacher"] == 8 * a_group
    assert tokens["two"] == 2 * a_group
    assert tokens["low"] <= a_group
    for arm in ("all", "oracle", "uniform", "fewer", "random", "moviechat", "vidcom2"):
        assert tokens[arm] == a_group, arm
    before = {o.arm: o.visual_tokens_before for o in predictions}
    assert before["teacher"] == before["all"] == before["uniform"] == 8 * a_group
    assert before["marc"] == 6 * a_group
    assert all(o.status == "answered" and set(o.scores) == {"official", "video-r1"}
               for o in predictions)  # fmt: skip


def test_retrieval_shows_events_in_order_of_time_and_is_scored(
    make_evaluator: Any, make_sample: Any
) -> None:
    predictions = make_evaluator({"marc": ArmConfig(), "oracle": ArmConfig(events="oracle")}).run(
        [make_sample()]
    )
    marc, oracle = predictions
    assert 2 in marc.events
    assert marc.events == tuple(sorted(marc.events))
    assert len(marc.events) == 3
    assert (marc.evidence_rank, marc.evidence_shown) == (1, 1.0)
    assert marc.recall_by_chance == {"1": 0.25, "3": 0.75}
    assert oracle.events == (2,)
    assert oracle.evidence_rank == 0


def test_a_video_is_loaded_and_encoded_once(make_evaluator: Any, make_sample: Any,
                                            make_loader: Any) -> None:  # fmt: skip
    loader = make_loader()
    evaluator = make_evaluator({"a": ArmConfig(), "b": ArmConfig(mode="weighted")}, loader)
    encoded = []
    encode = evaluator.student.encode_events
    evaluator.student.encode_events = lambda e: encoded.append(len(e)) or encode(e)
    evaluator.run([make_sample("0"), make_sample("1")])
    assert loader.loaded == ["one.mp4"]
    assert len(encoded) == 3  # the three retrieved events, for both arms and both questions


def test_batches_answer_as_single_questions(make_evaluator: Any, make_sample: Any) -> None:
    samples = [make_sample(str(i), problem="what is the " + w)
               for i, w in enumerate(("red", "blue", "red blue red", "A B C D"))]  # fmt: skip
    arms = {"teacher": TEACHER, "marc": ArmConfig()}
    together = make_evaluator(arms, batch_size=4).run(samples)
    alone = make_evaluator(arms, batch_size=1).run(samples)
    assert [o.text for o in together] == [o.text for o in alone]


def test_missing_and_broken_videos_are_rows(make_evaluator: Any, make_sample: Any,
                                            make_loader: Any) -> None:  # fmt: skip
    evaluator = make_evaluator({"a": ArmConfig(), "b": TEACHER}, make_loader(broken=["bad.mp4"]))
    missing = evaluator.run([make_sample(path="missing.mp4")])
    broken = evaluator.run([make_sample(path="bad.mp4")])
    assert [(o.arm, o.status, o.scores) for o in missing] == [("a", "missing", {}),
                                                              ("b", "missing", {})]  # fmt: skip
    assert broken[0].status == "failed"
    assert broken[0].error == "unreadable: 'bad.mp4' is broken."


def test_questions_about_a_clip_see_only_the_clip(make_evaluator: Any, make_sample: Any) -> None:
    whole = make_sample("0")
    part = make_sample("1", clip_start_s=5.0, clip_end_s=9.0)
    evaluator = make_evaluator({"teacher": TEACHER})
    predictions = evaluator.run([whole, part])
    assert [o.visual_tokens for o in predictions] == [8 * 12, 3 * 12]  # frames 5, 6, 7 and 8
    assert [len(g) for g in by_clip([whole, part, dataclasses.replace(whole, problem_id="2")])] == [
        2, 1,
    ]  # fmt: skip


def test_the_probe_times_one_question_alone(make_evaluator: Any, make_sample: Any) -> None:
    first, second = make_evaluator({"marc": ArmConfig()}).run(
        [make_sample("0"), make_sample("1")], probe=True
    )
    assert {"prefill", "generate", "vision", "compress"} <= set(first.alone_s)
    assert second.alone_s == {}
    assert first.timings_s["decode"] == pytest.approx(0.125)
    assert (
        first.kv_cache_bytes == 2 * 3 * 2 * 8 * (first.prompt_tokens + first.generated_tokens) * 4
    )
    assert first.peak_rss_bytes > 10 * 1024**2


def test_random_groups_depend_on_seed_and_question(make_evaluator: Any, make_sample: Any) -> None:
    arm = {"random": ArmConfig(events="all", control="random_groups")}
    samples = [make_sample(str(i)) for i in range(6)]
    first = [o.text for o in make_evaluator(arm).run(samples)]
    assert first == [o.text for o in make_evaluator(arm).run(samples)]


def test_prompt_style_follows_the_student() -> None:
    assert prompt_style(EvaluateConfig()) == "direct"
    hub = EvaluateConfig()
    hub = dataclasses.replace(hub, student=dataclasses.replace(hub.student, model="Qwen/x"))
    assert prompt_style(hub) == "video-r1"
    assert prompt_style(dataclasses.replace(hub, prompt="direct")) == "direct"
