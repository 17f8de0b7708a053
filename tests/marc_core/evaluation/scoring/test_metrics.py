"""Scores, computed by hand."""

import pytest

from marc_core.evaluation.datasets.sample import Sample
from marc_core.evaluation.scoring import metrics
from marc_core.evaluation.scoring.metrics import score


def make(kind: str, solution: str, *, benchmark: str = "mvbench", task: str = "t",
         options: tuple[str, ...] = ()) -> Sample:  # fmt: skip
    return Sample(
        problem_id="0", benchmark=benchmark, task=task, problem="?", data_type="video",
        problem_type=kind, options=options, solution=solution, path="v.mp4",  # type: ignore[arg-type]
    )  # fmt: skip


def test_mra_differs_between_the_scorings() -> None:
    sample = make("regression", "4", benchmark="vsi-bench", task="object_counting")
    assert score(sample, "3", "official") == pytest.approx(0.6)
    assert score(sample, "3", "video-r1") == pytest.approx(0.5)


def test_numbers_of_the_official_scoring_ignore_the_mark() -> None:
    assert score(make("numerical", "3"), "3.0", "official") == 1.0
    assert score(make("numerical", "3"), "about 3 of them", "official") == 1.0
    assert score(make("numerical", "3"), "4", "official") == 0.0


def test_letters_in_both_scorings() -> None:
    sample = make("multiple choice", "B", options=("A. cat", "B. dog"))
    assert score(sample, "(B)", "official") == 1.0
    assert score(sample, "(B)", "video-r1") == 0.0
    assert score(sample, "<think>A</think><answer>B</answer>", "video-r1") == 1.0
    assert score(sample, "b", "video-r1") == 0.0
    assert score(sample, "", "official") == 0.0


def test_vsi_bench_reads_the_first_word() -> None:
    letters = make("multiple choice", "B", benchmark="vsi-bench", task="route_planning",
                   options=("A. x", "B. y"))  # fmt: skip
    assert score(letters, "b. turn left", "official") == 1.0
    assert score(letters, "The answer is B", "official") == 0.0
    number = make("regression", "2.0", benchmark="vsi-bench", task="object_abs_distance")
    assert score(number, "2.0 metres", "official") == 1.0
    assert score(number, "two", "official") == 0.0


def test_tempcompass_rules() -> None:
    options = ("A. falls", "B. rises")
    choice = make("multiple choice", "B", benchmark="tempcompass", task="multi-choice/action",
                  options=options)  # fmt: skip
    assert [score(choice, t, "official") for t in ("B", "B. rises", "B) rises", "rises", "A")] == [
        1, 1, 1, 1, 0,
    ]  # fmt: skip
    yes = make("free-form", "no", benchmark="tempcompass", task="yes_no/speed")
    assert [score(yes, t, "official") for t in ("No, never", "nothing", "yes")] == [1, 0, 0]
    match = make("multiple choice", "Option 2", benchmark="tempcompass",
                 task="caption_matching/order",
                 options=("Option 1: it falls.", "Option 2: it rises."))  # fmt: skip
    given = ("Option 2", "Option 2: it rises.", "it rises.", "Option 1", "Option 22", "rises")
    assert [score(match, t, "official") for t in given] == [1, 1, 1, 0, 0, 0]


def test_videommmu_open_answers() -> None:
    number = make("free-form", "12.50", benchmark="videommmu")
    assert score(number, "so the total is 12.5 euros", "official") == 1.0
    assert score(number, "12.6", "official") == 0.0
    text = make("free-form", "Hash map", benchmark="videommmu")
    assert score(text, "It is a hash map.", "official") == 1.0
    assert score(text, "a hash", "official") == 0.0


def test_rule_judged_answers_are_named() -> None:
    assert metrics.judged_by_rule(make("free-form", "x", benchmark="mmvu"))
    assert not metrics.judged_by_rule(make("multiple choice", "A", benchmark="mmvu"))
