"""Scores by the kind of question, computed by hand."""

import pytest
import torch

from marc_core.scoring import answers
from marc_core.scoring.answers import score_answer
from marc_core.scoring.text import rouge_mean, word_error_rate


@pytest.mark.parametrize(
    ("p", "g", "official"),
    [(4, 4, 1.0), (2, 4, 0.1), (1.99, 4, 0.0), (8, 4, 0.0), (6, 4, 0.1), (4.2, 4, 1.0)],
)
def test_mra_official_by_hand(p: float, g: float, official: float) -> None:
    # |p - g| / g: 0; 0.5; 0.5025; 1; 0.5; 0.05 -> thetas 0.50 .. 0.95 with error <= 1 - theta
    assert answers.mra_official(p, g) == pytest.approx(official)


def test_mra_official_keeps_the_authors_floating_point() -> None:
    # at theta = 0.8 the authors compare 0.2 <= 0.19999999999999996; exact arithmetic gives 0.7
    assert answers.mra_official(8, 10) == pytest.approx(0.6)
    assert answers.mra_official(9, 10) == pytest.approx(0.9)


def test_mra_video_r1_equals_the_torch_formula() -> None:
    for p in [0.0, 1, 2, 2.5, 3, 3.5, 3.9, 4, 4.4, 5, 6, 7.99, 8]:
        target, pred = torch.tensor(4.0), torch.tensor(float(p))
        error = (pred - target).abs() / (target.abs() + 1e-8)
        thresholds = torch.arange(0.5, 0.975, 0.05, dtype=torch.float32)
        expected = (error < 1 - thresholds).float().mean().item()
        assert answers.mra_video_r1(float(p), 4.0) == pytest.approx(expected, abs=1e-6)


def test_mra_of_a_zero_target_does_not_divide() -> None:
    assert answers.mra_official(0, 0) == 1.0
    assert answers.mra_official(1, 0) == 0.0


@pytest.mark.parametrize(
    ("truth", "answer", "expected"),
    [("3", "3", 1), ("3", "3.0", 0), ("3.0", "3.001", 1), ("3.0", "3", 0), ("1,000", "1000.0", 1),
     ("3", "three", 0)],
)  # fmt: skip
def test_video_r1_numbers_need_the_same_decimal_mark(
    truth: str, answer: str, expected: float
) -> None:
    text = f"<answer>{answer}</answer>"
    assert score_answer(text, truth, "numerical", scoring="video-r1") == expected


def test_text_scores_by_hand() -> None:
    assert word_error_rate("a b c d", "a x c") == pytest.approx(0.5)
    assert word_error_rate("", "a") == 1.0
    # ROUGE-1: 2 of 3 and 3 -> 2/3; ROUGE-2: 1 of 2 and 2 -> 1/2; ROUGE-L: 2 -> 2/3
    assert rouge_mean("the red cube", "the red ball") == pytest.approx((2 / 3 + 1 / 2 + 2 / 3) / 3)
    assert rouge_mean("red", "") == 0.0
    assert score_answer("<answer>a x c</answer>", "a b c d", "OCR", scoring="video-r1") == 0.5
    assert score_answer("x y z", "a", "OCR", scoring="video-r1") == 0.0
    assert score_answer("red cube", "red cube", "free-form", scoring="video-r1") == 1.0


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
