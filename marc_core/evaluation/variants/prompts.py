"""The text of a question as the model receives it.

`video-r1` is the prompt with which the paper's six benchmarks were run (Video-R1, Apache-2.0,
eval_bench.py); its wording is part of the protocol, and so kept word for word, including the
missing line break before "Options:". `direct` is the prompt of MARC's own answers and presets
(`marc_core.models.prompt.question_text`).
"""

from __future__ import annotations

from typing import Literal

from marc_core.evaluation.config import EvaluateConfig
from marc_core.evaluation.datasets.sample import ProblemType, Sample

PromptStyle = Literal["direct", "video-r1"]

THINK_TEMPLATE = (
    "{question}\n"
    "Please think about this question as if you were a human pondering deeply. "
    "Engage in an internal dialogue using expressions such as 'let me think', 'wait', 'Hmm', "
    "'oh, I see', 'let's break it down', etc, or other natural language thought expressions "
    "It's encouraged to include self-reflection or verification in the reasoning process. "
    "Provide your detailed reasoning between the <think> and </think> tags, "
    "and then give your final answer between the <answer> and </answer> tags."
)

_NUMBER = (
    " Please provide the numerical value (e.g., 42 or 3.14) within the <answer> </answer> tags."
)

TYPE_TEMPLATE: dict[ProblemType, str] = {
    "multiple choice": (
        " Please provide only the single option letter (e.g., A, B, C, D, etc.)"
        " within the <answer> </answer> tags."
    ),
    "numerical": _NUMBER,
    "regression": _NUMBER,
    "OCR": (
        " Please transcribe text from the image/video clearly and provide your text answer"
        " within the <answer> </answer> tags."
    ),
    "free-form": " Please provide your text answer within the <answer> </answer> tags.",
}


def build_prompt(
    sample: Sample, style: PromptStyle, options_prompt: Literal["letter", "choice"] = "letter"
) -> str:
    """Return the user text for one sample; options only for multiple choice.

    options_prompt: how `direct` puts options (`StudentConfig`).
    """
    return _video_r1(sample) if style == "video-r1" else _direct(sample, options_prompt)


def _video_r1(sample: Sample) -> str:
    question = sample.problem
    if sample.problem_type == "multiple choice":
        question += "Options:\n" + "".join(f"{option}\n" for option in sample.options)
    return THINK_TEMPLATE.format(question=question) + TYPE_TEMPLATE[sample.problem_type]


def build_choices(
    sample: Sample, style: PromptStyle, options_prompt: Literal["letter", "choice"]
) -> list[str]:
    """Return the texts among which the answer is decoded; none where it is free."""
    from marc_core.models.prompt import choices_of

    chosen = style == "direct" and options_prompt == "choice"
    return choices_of(sample.options) if chosen and _has_options(sample) else []


def _has_options(sample: Sample) -> bool:
    return sample.problem_type == "multiple choice"


def _direct(sample: Sample, options_prompt: Literal["letter", "choice"]) -> str:
    from marc_core.models.prompt import question_text  # it pulls in torch; loaders need not

    options = sample.options if _has_options(sample) else ()
    return question_text(sample.problem, options, template=options_prompt)


def prompt_style(config: EvaluateConfig) -> PromptStyle:
    """Return the prompt of this run: "auto" is direct for MARC's presets and wherever a memory
    answers (as `marc ask` does), video-r1 for other students."""
    if config.use_memory:
        return "direct"
    if config.prompt != "auto":
        return config.prompt
    return "direct" if config.student.model.startswith("preset:") else "video-r1"
