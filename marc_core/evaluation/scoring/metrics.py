"""Scores of one answer, in two named scorings.

`video-r1`: as the paper's evaluation script scores all six benchmarks (exact strings; numbers
only where both or neither have a decimal mark; MRA with a strict "<", in 32-bit arithmetic).
`official`: as each benchmark's authors score it. The two differ: p = 3, g = 4 is 0.5 under
video-r1 and 0.6 under official.

Differences from the authors' scorers, where ours is stricter about what counts as an answer: a
letter is never read out of a sentence ("A cat sits"); "nothing" is not "no"; where they ask a
language model to judge (MMVU open-ended, TempCompass answers that no rule matches), we compare
normalised text and say so in the manifest (`judged_by_rule`). TempCompass captioning needs such
a judge and is not offered.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np

from marc_core.evaluation.datasets.sample import Sample, option_text
from marc_core.evaluation.scoring import parse
from marc_core.evaluation.scoring.textscore import rouge_mean, word_error_rate

Scoring = Literal["official", "video-r1"]
SCORINGS: tuple[Scoring, ...] = ("official", "video-r1")

VSI_NUMERICAL = frozenset(
    {"object_abs_distance", "object_counting", "object_size_estimation", "room_size_estimation"}
)
"""VSI-Bench tasks that are scored by mean relative accuracy; the others have letters."""


def score(sample: Sample, text: str, scoring: Scoring) -> float:
    """Return the score of one answer in [0, 1]; an empty or unreadable answer is 0."""
    if scoring == "video-r1":
        return score_video_r1(sample, text)
    return OFFICIAL.get(sample.benchmark, score_default)(sample, text)


def mra_official(predicted: float, target: float) -> float:
    """Return VSI-Bench's mean relative accuracy: share of theta in 0.50, 0.55 .. 0.95 with
    |p - g| / g <= 1 - theta (Yang et al. 2024, section 4.1), in the authors' 64-bit arithmetic.

    A target of 0 gives 1 for an exact prediction and 0 otherwise (our choice; theirs divides).
    """
    if target == 0:
        return float(predicted == 0)
    thresholds = np.linspace(0.5, 0.95, 10)
    return float((abs(predicted - target) / target <= 1 - thresholds).mean())


def mra_video_r1(predicted: float, target: float) -> float:
    """Return Video-R1's MRA: strict "<", |g| + 1e-8 below the line, 32-bit arithmetic."""
    one, thresholds = np.float32(1), np.arange(0.5, 0.975, 0.05).astype(np.float32)
    p, g = np.float32(predicted), np.float32(target)
    error = np.abs(p - g) / (np.abs(g) + np.float32(1e-8))
    return float((error < one - thresholds).mean())


def score_video_r1(sample: Sample, text: str) -> float:
    """Score by problem type, as Video-R1's `reward_fn`; OCR and free-form as its reward."""
    answer, truth = parse.video_r1_answer(text).strip(), sample.solution
    match sample.problem_type:
        case "multiple choice":
            return float(answer == truth)
        case "numerical":
            return _numerical_video_r1(answer, truth)
        case "regression":
            p, g = parse.to_number(answer), parse.to_number(truth)
            return 0.0 if p is None or g is None else mra_video_r1(p, g)
        case "OCR":
            return min(1.0, max(0.0, 1 - word_error_rate(truth, answer)))
        case "free-form":
            return rouge_mean(truth, answer)


def _numerical_video_r1(answer: str, truth: str) -> float:
    if any(m in truth for m in ".,") != any(m in answer for m in ".,"):
        return 0.0
    p, g = parse.to_number(answer), parse.to_number(truth)
    return float(p is not None and g is not None and round(p, 2) == round(g, 2))


def score_default(sample: Sample, text: str) -> float:
    """Score by problem type with robust reading: MVBench, MMVU, VideoMMMU, Video-MME, world.

    Multiple choice by letter; numbers equal to two decimals; regression by the official MRA;
    other text equal after normalising, or holding the whole normalised solution.
    """
    match sample.problem_type:
        case "multiple choice":
            return float(parse.extract_letter(text, sample.options) == sample.solution)
        case "numerical":
            return _equal_number(text, sample.solution)
        case "regression":
            p, g = _single_number(text), parse.to_number(sample.solution)
            return 0.0 if p is None or g is None else mra_official(p, g)
        case "OCR":
            return float(_same_text(text, sample.solution))
        case "free-form":
            return float(_same_text(text, sample.solution))


def _single_number(text: str) -> float | None:
    answer = parse.final_answer(text)
    whole = parse.to_number(answer)
    found = parse.numbers_in(answer)
    return whole if whole is not None else (found[-1] if found else None)


def _equal_number(text: str, truth: str) -> float:
    p, g = _single_number(text), parse.to_number(truth)
    return float(p is not None and g is not None and round(p, 2) == round(g, 2))


def _same_text(text: str, truth: str) -> bool:
    answer, wanted = parse.normalise(parse.final_answer(text)), parse.normalise(truth)
    return bool(wanted) and (answer == wanted or f" {wanted} " in f" {answer} ")


def score_vsi(sample: Sample, text: str) -> float:
    """Score as VSI-Bench's authors: the first word; letters without case, numbers by MRA."""
    word = parse.first_word(text)
    if sample.problem_type == "multiple choice":
        return float(word.lower() == sample.solution.lower())
    p, g = _float(word), _float(sample.solution)
    return 0.0 if p is None or g is None else mra_official(p, g)


def _float(word: str) -> float | None:
    return None if "," in word else parse.to_number(word)


def score_videommmu(sample: Sample, text: str) -> float:
    """Score as VideoMMMU: letters; open answers by equal numbers or the solution's text."""
    if sample.problem_type == "multiple choice":
        return score_default(sample, text)
    truth = parse.to_number(sample.solution)
    if truth is None:
        return float(_same_text(text, sample.solution))
    found = parse.numbers_in(parse.final_answer(text))
    return float(any(round(n, 2) == round(truth, 2) for n in found))


def score_tempcompass(sample: Sample, text: str) -> float:
    """Score as TempCompass: exact, letter or label, or option text; yes/no by whole word."""
    kind = sample.task.split("/")[0]
    if kind == "yes_no":
        return float(parse.extract_yes_no(text) == sample.solution.lower())
    if kind == "caption_matching":
        return float(_labelled(text, sample.options) == sample.solution)
    return score_default(sample, text)


def _labelled(text: str, options: tuple[str, ...]) -> str | None:
    """Return the label ("Option 2", "Sentence A") of the option that the answer gives."""
    answer = parse.normalise(parse.final_answer(text))
    found: set[str] = set()
    for option in options:
        label, _, rest = option.partition(": ")
        forms = {parse.normalise(x) for x in (option, label, rest)}
        if answer in forms or answer.startswith(parse.normalise(label) + " "):
            found.add(label)
    return found.pop() if len(found) == 1 else None


OFFICIAL: dict[str, Callable[[Sample, str], float]] = {
    "vsi-bench": score_vsi,
    "videommmu": score_videommmu,
    "tempcompass": score_tempcompass,
}
"""Benchmarks whose authors' scoring is not `score_default`."""


def judged_by_rule(sample: Sample) -> bool:
    """True where the benchmark's authors would ask a language model to judge this answer."""
    return sample.benchmark == "mmvu" and sample.problem_type != "multiple choice"


def correct_option(sample: Sample) -> str:
    """Return the right answer as text, for reports: the option's text, or the solution."""
    if sample.problem_type != "multiple choice" or len(sample.solution) != 1:
        return sample.solution
    index = ord(sample.solution) - ord("A")
    return option_text(sample.options[index]) if index < len(sample.options) else sample.solution
