"""Scores, computed by hand."""

import pytest
import torch

from marc_core.evaluation.datasets.sample import Sample
from marc_core.evaluation.scoring import metrics
from marc_core.evaluation.scoring.metrics import score
from marc_core.evaluation.scoring.textscore import rouge_mean, word_error_rate


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


@pytest.mark.parametrize(
    ("p", "g", "official"),
    [(4, 4, 1.0), (2, 4, 0.1), (1.99, 4, 0.0), (8, 4, 0.0), (6, 4, 0.1), (4.2, 4, 1.0)],
)
def test_mra_official_by_hand(p: float, g: float, official: float) -> None:
    # |p - g| / g: 0; 0.5; 0.5025; 1; 0.5; 0.05 -> thetas 0.50 .. 0.95 with error <= 1 - theta
    assert metrics.mra_official(p, g) == pytest.approx(official)


def test_mra_official_keeps_the_authors_floating_point() -> None:
    # at theta = 0.8 the authors compare 0.2 <= 0.19999999999999996; exact arithmetic gives 0.7
    assert metrics.mra_official(8, 10) == pytest.approx(0.6)
    assert metrics.mra_official(9, 10) == pytest.approx(0.9)


def test_mra_video_r1_equals_the_torch_formula() -> None:
    for p in [0.0, 1, 2, 2.5, 3, 3.5, 3.9, 4, 4.4, 5, 6, 7.99, 8]:
        target, pred = torch.tensor(4.0), torch.tensor(float(p))
        error = (pred - target).abs() / (target.abs() + 1e-8)
        thresholds = torch.arange(0.5, 0.975, 0.05, dtype=torch.float32)
        expected = (error < 1 - thresholds).float().mean().item()
        assert metrics.mra_video_r1(float(p), 4.0) == pytest.approx(expected, abs=1e-6)


def test_mra_of_a_zero_target_does_not_divide() -> None:
    assert metrics.mra_official(0, 0) == 1.0
    assert metrics.mra_official(1, 0) == 0.0


@pytest.mark.parametrize(
    ("truth", "answer", "expected"),
    [("3", "3", 1), ("3", "3.0", 0), ("3.0", "3.001", 1), ("3.0", "3", 0), ("1,000", "1000.0", 1),
     ("3", "three", 0)],
)  # fmt: skip
def test_video_r1_numbers_need_the_same_decimal_mark(
    truth: str, answer: str, expected: float
) -> None:
    sample = make("numerical", truth)
    assert score(sample, f"<answer>{answer}</answer>", "video-r1") == expected


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


def test_text_scores_by_hand() -> None:
    assert word_error_rate("a b c d", "a x c") == pytest.approx(0.5)
    assert word_error_rate("", "a") == 1.0
    # ROUGE-1: 2 of 3 and 3 -> 2/3; ROUGE-2: 1 of 2 and 2 -> 1/2; ROUGE-L: 2 -> 2/3
    assert rouge_mean("the red cube", "the red ball") == pytest.approx((2 / 3 + 1 / 2 + 2 / 3) / 3)
    assert rouge_mean("red", "") == 0.0
    assert score(make("OCR", "a b c d"), "<answer>a x c</answer>", "video-r1") == 0.5
    assert score(make("OCR", "a"), "x y z", "video-r1") == 0.0
    assert score(make("free-form", "red cube"), "red cube", "video-r1") == 1.0


@pytest.mark.parametrize(
    ("truth", "answer", "wer", "rouge"),
    [  # values of the scorers that this project had before it took packages
        ("a b c d", "a x c", 0.5, 0.38095238095238093),
        ("the cat sits on the mat", "the cat sat on a mat", 1 / 3, 0.5111111111111111),
        ("one two three", "three two one", 2 / 3, 0.4444444444444444),
        ("it's 12.5 metres", "12.5 METRES", 2 / 3, 0.7222222222222222),
        ("red", "", 1.0, 0.0),
        ("", "", 0.0, 0.0),
        ("赤い", "赤い", 0.0, 0.0),
    ],
)
def test_packages_score_as_our_own_code_did(
    truth: str, answer: str, wer: float, rouge: float
) -> None:
    assert word_error_rate(truth, answer) == pytest.approx(wer)
    assert rouge_mean(truth, answer) == pytest.approx(rouge)


def test_words_are_stemmed_as_in_video_r1() -> None:
    assert rouge_mean("the dogs running", "the dog runs") == 1.0


def test_rule_judged_answers_are_named() -> None:
    assert metrics.judged_by_rule(make("free-form", "x", benchmark="mmvu"))
    assert not metrics.judged_by_rule(make("multiple choice", "A", benchmark="mmvu"))
