"""Scores of free text: word error rate and ROUGE, for OCR and free-form answers.

As in Video-R1's reward, with the same packages: OCR = 1 - WER; free-form = mean F1 of ROUGE-1, -2
and -L on words stemmed by Porter's rules.
"""

from __future__ import annotations

from functools import cache
from typing import Any


def word_error_rate(reference: str, hypothesis: str) -> float:
    """Return word-level edit distance divided by the number of reference words (at least 1)."""
    from rapidfuzz.distance import Levenshtein

    ref, hyp = reference.split(), hypothesis.split()
    return Levenshtein.distance(ref, hyp) / max(1, len(ref))


def rouge_mean(reference: str, hypothesis: str) -> float:
    """Return the mean F1 of ROUGE-1, -2 and -L on stemmed lower-case words of letters and digits.

    0 where one of the two holds no such word: ROUGE knows the Latin alphabet only.
    """
    scores = _rouge().score(reference, hypothesis).values()
    return float(sum(s.fmeasure for s in scores) / len(scores))


@cache
def _rouge() -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=True)
