"""The prompts, word for word where the protocol fixes the words."""

from marc_core.evaluation.datasets.sample import PROBLEM_TYPES, Sample
from marc_core.evaluation.variants.prompts import TYPE_TEMPLATE, build_prompt
from marc_core.models.prompt import question_text

SAMPLE = Sample(
    problem_id="0", benchmark="mvbench", task="t", problem="What moves?", data_type="video",
    problem_type="multiple choice", options=("A. cat", "B. dog"), solution="B", path="v.mp4",
)  # fmt: skip


def test_video_r1_prompt() -> None:
    prompt = build_prompt(SAMPLE, "video-r1")
    assert prompt.startswith("What moves?Options:\nA. cat\nB. dog\n\nPlease think about this")
    assert prompt.endswith("between the <answer> and </answer> tags."
                           + TYPE_TEMPLATE["multiple choice"])  # fmt: skip
    assert "single option letter" in prompt


def test_direct_prompt_is_the_one_of_the_presets() -> None:
    prompt = build_prompt(SAMPLE, "direct")
    assert prompt == question_text("What moves?", ["cat", "dog"])
    assert prompt.startswith("What moves?\nOptions:\nA. cat\nB. dog")


def test_braces_in_a_question_survive() -> None:
    sample = Sample(
        problem_id="0", benchmark="mmvu", task="", problem="Solve {x} in {question}",
        data_type="video", problem_type="free-form", options=(), solution="1", path="v.mp4",
    )  # fmt: skip
    assert "Solve {x} in {question}\nPlease think" in build_prompt(sample, "video-r1")


def test_every_type_has_its_template() -> None:
    assert set(TYPE_TEMPLATE) == set(PROBLEM_TYPES)
