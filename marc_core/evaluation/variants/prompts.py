"""The text of a question as a benchmark's protocol has it.

`direct` is MARC's own prompt (`marc_core.models.prompt`), as `marc ask` puts it. `video-r1` is the
prompt with which the paper's six benchmarks were run (Video-R1, Apache-2.0, eval_bench.py); its
wording is part of the protocol, and so kept word for word, including the missing line break
before "Options:".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from marc_core.evaluation.config import EvaluateConfig
from marc_core.evaluation.datasets.sample import Sample
from marc_core.scoring.options import ProblemType

if TYPE_CHECKING:
    from marc_core.models.prompt import Prompt

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


def shown_options(sample: Sample) -> tuple[str, ...]:
    """Return the options that a question is asked with: those of multiple choice."""
    return sample.options if sample.problem_type == "multiple choice" else ()


def protocol_prompt(sample: Sample, style: PromptStyle) -> Prompt | None:
    """Return the prompt that a protocol prescribes; None where MARC's own is used."""
    from marc_core.models.prompt import Prompt  # it pulls in torch; loaders need not

    if style == "direct":
        return None
    question = sample.problem
    if sample.problem_type == "multiple choice":
        question += "Options:\n" + "".join(f"{option}\n" for option in sample.options)
    text = THINK_TEMPLATE.format(question=question) + TYPE_TEMPLATE[sample.problem_type]
    return Prompt(text=text)


def prompt_style(config: EvaluateConfig) -> PromptStyle:
    """Return the prompt of this run. auto: what the student's own marc.json says, and direct
    wherever a memory answers, as `marc ask` does. Raises ModelLoadError."""
    from marc_core.models.checkpoints import local_directory
    from marc_core.models.model_settings import model_settings

    if config.use_memory:
        return "direct"
    if config.prompt != "auto":
        return config.prompt
    student = config.student
    directory = local_directory("student", student.model, student.revision)
    return model_settings(directory).evaluation_prompt
