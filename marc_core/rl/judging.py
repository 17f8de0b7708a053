"""From texts to numbers: what each answer of a group scores, with or without a right answer.

    labelled      score of the text against the right wordings, the best counts
    unlabelled    against the full-token teacher's own answers: its most common one, or all of them

An archive's owner has no labels; the teacher that sees every frame is then the only judge. Its own
answers are judged the same way, so that eta = a_comp / a_full compares like with like.

No tensors here and no text behind it: the loss sees numbers only.

Letters: G student answers to a question, H teacher answers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

from marc_core.rl.config import RewardConfig
from marc_core.rl.samples import TrainSample
from marc_core.scoring import parse
from marc_core.scoring.answers import score_answer
from marc_core.scoring.options import with_letters

_TAGGED = re.compile(r"\s*<think>.*?</think>\s*<answer>.*?</answer>\s*", re.DOTALL)

Scorer = Callable[[str], float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """What a group's answers are worth.

    scores: (G,) accuracy in [0, 1]. right: (G,) whether they count as right (the gate of r_c).
    bonus: (G,) format and length rewards. a_full: the teacher's accuracy by the same judge, None
    where no teacher was asked. choice_scores: of the texts among which the answer was decoded, in
    order; none where it was free.
    """

    scores: tuple[float, ...]
    right: tuple[bool, ...]
    bonus: tuple[float, ...]
    a_full: float | None = None
    choice_scores: tuple[float, ...] = ()


def judge(
    sample: TrainSample,
    texts: Sequence[str],
    config: RewardConfig,
    *,
    teacher: Sequence[str] = (),
    lengths: Sequence[int] = (),
    choices: Sequence[str] = (),
) -> Verdict | None:
    """Return what the answers `texts` are worth, or None where nothing can tell.

    teacher: the full-token teacher's answers. lengths: tokens of `texts`, for the length reward.
    choices: texts among which the answer was decoded. None for an unlabelled question that
    `config.unlabelled` skips, without a teacher, or on which its answers agree too little.
    """
    texts, teacher, choices = (_read(sample, x, choices) for x in (texts, teacher, choices))
    if sample.answers:
        scorer = _labelled(sample, config)
        a_full = fmean(map(scorer, teacher)) if teacher else None
    else:
        found = _by_teacher(sample, teacher, config)
        if found is None:
            return None
        scorer, a_full = found
    scores = tuple(map(scorer, texts))
    right = tuple(score >= config.right_from for score in scores)
    return Verdict(
        scores=scores,
        right=right,
        bonus=_bonus(texts, right, lengths, config),
        a_full=a_full,
        choice_scores=tuple(map(scorer, choices)),
    )


def has_format(text: str) -> bool:
    """Return whether a text is <think>...</think> and <answer>...</answer>, and nothing else.

    Video-R1's format reward.
    """
    return _TAGGED.fullmatch(text) is not None


def _read(sample: TrainSample, texts: Sequence[str], choices: Sequence[str]) -> list[str]:
    """Return texts with the letter in place of an option that was decoded as a whole.

    There is nothing to parse then: "a" may be the third option's text, "none of B" the first's.
    """
    if sample.problem_type != "multiple choice":
        return list(texts)
    letters = {text: chr(ord("A") + i) for i, text in enumerate(choices)}
    return [letters.get(text.strip(), text) for text in texts]


def _labelled(sample: TrainSample, config: RewardConfig) -> Scorer:
    def score(text: str) -> float:
        return max(_score(sample, text, answer, config) for answer in sample.answers)

    return score


def _by_teacher(
    sample: TrainSample, teacher: Sequence[str], config: RewardConfig
) -> tuple[Scorer, float] | None:
    """Return (scorer, a_full) of an unlabelled question, None where the teacher cannot tell."""
    references = [_answer_of(sample, text) for text in teacher]
    if config.unlabelled == "skip" or not any(references):
        return None

    def against(text: str, answer: str | None) -> float:
        return 0.0 if answer is None else _score(sample, text, answer, config)

    agreed_HH = [[against(text, answer) for answer in references] for text in teacher]
    if config.unlabelled == "majority":
        shares = [fmean(row[h] for row in agreed_HH) for h in range(len(references))]
        a_full = max(shares)
        common = references[shares.index(a_full)]

        def scorer(text: str) -> float:
            return against(text, common)
    else:
        others = [row[h] for i, row in enumerate(agreed_HH) for h in range(len(row)) if h != i]
        a_full = fmean(others) if others else 1.0

        def scorer(text: str) -> float:
            return fmean(against(text, answer) for answer in references)

    return (scorer, a_full) if a_full >= config.least_agreement else None


def _answer_of(sample: TrainSample, text: str) -> str | None:
    """Return a teacher's text as an answer to compare with, None where it holds none."""
    if sample.problem_type == "multiple choice":
        return parse.extract_letter(text, _options(sample))
    return parse.final_answer(text) or None


def _score(sample: TrainSample, text: str, answer: str, config: RewardConfig) -> float:
    return score_answer(
        text, answer, sample.problem_type, options=_options(sample), scoring=config.scoring
    )


def _options(sample: TrainSample) -> tuple[str, ...]:
    return with_letters(sample.question.options)


def _bonus(
    texts: Sequence[str], right: Sequence[bool], lengths: Sequence[int], config: RewardConfig
) -> tuple[float, ...]:
    bonus = [config.format_weight * has_format(text) for text in texts]
    if config.length_weight:
        low, high = config.least_tokens, config.most_tokens
        rewarded = [r and low <= n <= high for r, n in zip(right, lengths, strict=True)]
        bonus = [b + config.length_weight * x for b, x in zip(bonus, rewarded, strict=True)]
    return tuple(bonus)
