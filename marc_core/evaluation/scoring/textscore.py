"""Scores of free text: word error rate and ROUGE, for OCR and free-form answers.

As in Video-R1's reward: OCR = 1 - WER, free-form = mean F1 of ROUGE-1, -2 and -L. Difference:
words are not stemmed (its rouge-score package applies the Porter stemmer).
"""

from __future__ import annotations

import re
from collections import Counter

_TOKEN = re.compile(r"[a-z0-9]+")


def word_error_rate(reference: str, hypothesis: str) -> float:
    """Return word-level edit distance divided by the number of reference words (at least 1)."""
    ref, hyp = reference.split(), hypothesis.split()
    row = list(range(len(hyp) + 1))
    for i, word in enumerate(ref, start=1):
        previous, row = row, [i]
        for j, other in enumerate(hyp, start=1):
            if word == other:
                row.append(previous[j - 1])
            else:
                row.append(1 + min(previous[j], row[j - 1], previous[j - 1]))
    return row[-1] / max(1, len(ref))


def rouge_mean(reference: str, hypothesis: str) -> float:
    """Return the mean F1 of ROUGE-1, ROUGE-2 and ROUGE-L on lower-case alphanumeric words."""
    ref, hyp = _TOKEN.findall(reference.lower()), _TOKEN.findall(hypothesis.lower())
    ngrams = (_ngram_f1(ref, hyp, 1), _ngram_f1(ref, hyp, 2))
    return (sum(ngrams) + _f1(_lcs(ref, hyp), len(hyp), len(ref))) / 3


def _ngram_f1(ref: list[str], hyp: list[str], n: int) -> float:
    a = Counter(tuple(ref[i : i + n]) for i in range(len(ref) - n + 1))
    b = Counter(tuple(hyp[i : i + n]) for i in range(len(hyp) - n + 1))
    return _f1((a & b).total(), b.total(), a.total())


def _f1(hits: int, num_hyp: int, num_ref: int) -> float:
    return 2 * hits / (num_hyp + num_ref) if hits else 0.0


def _lcs(a: list[str], b: list[str]) -> int:
    row = [0] * (len(b) + 1)
    for word in a:
        previous, row = row, [0]
        for j, other in enumerate(b):
            row.append(previous[j] + 1 if word == other else max(previous[j + 1], row[j]))
    return row[-1]
