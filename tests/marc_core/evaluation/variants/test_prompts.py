"""The prompts, word for word where the protocol fixes the words."""

import dataclasses

from marc_core.evaluation.datasets.sample import Sample
from marc_core.evaluation.variants.prompts import TYPE_TEMPLATE, protocol_prompt, shown_options
from marc_core.scoring.options import PROBLEM_TYPES

SAMPLE = Sample(
    problem_id="0", benchmark="mvbench", task="t", problem="What moves?", data_type="video",
    problem_type="multiple choice", options=("A. cat", "B. dog"), solution="B", path="v.mp4",
)  # fmt: skip


def text(sample: Sample) -> str:
    prompt = protocol_prompt(sample, "video-r1")
    assert prompt is not None
    assert prompt.choices == ()
    return prompt.text


def test_video_r1_prompt() -> None:
    prompt = text(SAMPLE)
    assert prompt.startswith("What moves?Options:\nA. cat\nB. dog\n\nPlease think about this")
    assert prompt.endswith("between the <answer> and </answer> tags."
                           + TYPE_TEMPLATE["multiple choice"])  # fmt: skip
    assert "single option letter" in prompt


def test_direct_is_left_to_the_product() -> None:
    assert protocol_prompt(SAMPLE, "direct") is None
    assert shown_options(SAMPLE) == ("A. cat", "B. dog")
    assert shown_options(dataclasses.replace(SAMPLE, problem_type="free-form")) == ()


def test_braces_in_a_question_survive() -> None:
    sample = Sample(
        problem_id="0", benchmark="mmvu", task="", problem="Solve {x} in {question}",
        data_type="video", problem_type="free-form", options=(), solution="1", path="v.mp4",
    )  # fmt: skip
    assert "Solve {x} in {question}\nPlease think" in text(sample)


def test_every_type_has_its_template() -> None:
    assert set(TYPE_TEMPLATE) == set(PROBLEM_TYPES)
