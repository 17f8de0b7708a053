"""The score of an answer by the kind of its question, in two named scorings.

`video-r1`: as the paper's evaluation script and reward score all problem types (exact strings;
numbers only where both or neither have a decimal mark; MRA with a strict "<", in 32-bit
arithmetic). `official`: with robust reading, as most benchmarks' authors do. The two differ:
p = 3, g = 4 is 0.5 under video-r1 and 0.6 under official.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from marc_core.scoring import parse
from marc_core.scoring.options import ProblemType
from marc_core.scoring.text import rouge_mean, word_error_rate

Scoring = Literal["official", "video-r1"]
SCORINGS: tuple[Scoring, ...] = ("official", "video-r1")


def score_answer(
    text: str,
    solution: str,
    problem_type: ProblemType,
    *,
    options: Sequence[str] = (),
    scoring: Scoring = "official",
) -> float:
    """Return the score of one answer in [0, 1]; an empty or unreadable answer is 0.

    solution: a letter, a number or a text. options: the labelled options of multiple choice.
    """
    if scoring == "video-r1":
        return _video_r1(text, solution, problem_type)
    return _official(text, solution, problem_type, options)


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


def same_text(text: str, truth: str) -> bool:
    """Return whether the answer equals the truth after normalising, or holds all of it."""
    answer, wanted = parse.normalise(parse.final_answer(text)), parse.normalise(truth)
    return bool(wanted) and (answer == wanted or f" {wanted} " in f" {answer} ")


def _video_r1(text: str, solution: str, problem_type: ProblemType) -> float:
    """As Video-R1's `reward_fn`; OCR and free-form as its reward."""
    answer = parse.video_r1_answer(text).strip()
    match problem_type:
        case "multiple choice":
            return float(answer == solution)
        case "numerical":
            return _numerical_video_r1(answer, solution)
        case "regression":
            p, g = parse.to_number(answer), parse.to_number(solution)
            return 0.0 if p is None or g is None else mra_video_r1(p, g)
        case "OCR":
            return min(1.0, max(0.0, 1 - word_error_rate(solution, answer)))
        case "free-form":
            return rouge_mean(solution, answer)


def _numerical_video_r1(answer: str, truth: str) -> float:
    if any(m in truth for m in ".,") != any(m in answer for m in ".,"):
        return 0.0
    p, g = parse.to_number(answer), parse.to_number(truth)
    return float(p is not None and g is not None and round(p, 2) == round(g, 2))


def _official(text: str, solution: str, problem_type: ProblemType, options: Sequence[str]) -> float:
    """With robust reading: multiple choice by letter; numbers equal to two decimals; regression
    by the official MRA; other text by `same_text`."""
    match problem_type:
        case "multiple choice":
            return float(parse.extract_letter(text, options) == solution)
        case "numerical":
            return _equal_number(text, solution)
        case "regression":
            p, g = _single_number(text), parse.to_number(solution)
            return 0.0 if p is None or g is None else mra_official(p, g)
        case "OCR" | "free-form":
            return float(same_text(text, solution))


def _single_number(text: str) -> float | None:
    answer = parse.final_answer(text)
    whole = parse.to_number(answer)
    found = parse.numbers_in(answer)
    return whole if whole is not None else (found[-1] if found else None)


def _equal_number(text: str, truth: str) -> float:
    p, g = _single_number(text), parse.to_number(truth)
    return float(p is not None and g is not None and round(p, 2) == round(g, 2))
