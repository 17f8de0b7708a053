"""Scores of one answer of a benchmark, in two named scorings (`marc_core.scoring.answers`).

`video-r1`: as the paper's evaluation script scores all six benchmarks. `official`: as each
benchmark's authors score it.

Differences from the authors' scorers, where ours is stricter about what counts as an answer: a
letter is never read out of a sentence ("A cat sits"); "nothing" is not "no"; where they ask a
language model to judge (MMVU open-ended, TempCompass answers that no rule matches), we compare
normalised text and say so in the manifest (`judged_by_rule`). TempCompass captioning needs such
a judge and is not offered.
"""

from __future__ import annotations

from collections.abc import Callable

from marc_core.evaluation.datasets.sample import Sample
from marc_core.scoring import parse
from marc_core.scoring.answers import Scoring, mra_official, same_text, score_answer
from marc_core.scoring.options import option_text

VSI_NUMERICAL = frozenset(
    {"object_abs_distance", "object_counting", "object_size_estimation", "room_size_estimation"}
)
"""VSI-Bench tasks that are scored by mean relative accuracy; the others have letters."""


def score(sample: Sample, text: str, scoring: Scoring) -> float:
    """Return the score of one answer in [0, 1]; an empty or unreadable answer is 0."""
    if scoring == "video-r1":
        return score_answer(text, sample.solution, sample.problem_type, scoring=scoring)
    return OFFICIAL.get(sample.benchmark, score_default)(sample, text)


def score_default(sample: Sample, text: str) -> float:
    """Score by problem type with robust reading: MVBench, MMVU, VideoMMMU, Video-MME, world."""
    return score_answer(text, sample.solution, sample.problem_type, options=sample.options)


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
        return float(same_text(text, sample.solution))
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
