"""Reading answers: every form a model gives a letter in, and none that it does not."""

import pytest

from marc_core.scoring import parse

OPTIONS = ("A. red", "B. a blue cube", "C. left", "D. 12")


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("(B)", "B"),
        ("Answer: C", "C"),
        ("<answer>A</answer>", "A"),
        ("a", "A"),
        ("B.", "B"),
        ("**D**", "D"),
        ("B. a blue cube", "B"),
        ("c) left", "C"),
        ("The answer is B because A moves.", "B"),
        ("The correct option is (D).", "D"),
        ("<think>Maybe B or C.</think><answer> c </answer>", "C"),
        ("<think>A or B?</think> C", "C"),
        ("<answer>B", "B"),
        ("\\boxed{D}", "D"),
        ("\\boxed{\\text{D}}", "D"),
        ("It must be (B), surely", "B"),
        ("a blue cube", "B"),
        ("A blue cube", "B"),
        ("It moves left.", "C"),
        ("It is the B one", "B"),
        ("Final answer：D", "D"),
    ],
)
def test_letter_is_found(text: str, letter: str) -> None:
    assert parse.extract_letter(text, OPTIONS) == letter


@pytest.mark.parametrize(
    "text",
    [
        "A cat sits",
        "Answer: a cat sits",
        "The answer is a cat",
        "A dog and A cat",
        "I think so",
        "",
        "E",
        "between B and C",
        "(A) is wrong and so is (B)",
        "red or left",
        "Because",
        "U.S.A",
        "<answer></answer>",
    ],
)
def test_no_letter_is_invented(text: str) -> None:
    assert parse.extract_letter(text, OPTIONS) is None


def test_letters_follow_the_number_of_options() -> None:
    assert parse.extract_letter("D", OPTIONS[:2]) is None
    assert parse.extract_letter("D", OPTIONS) == "D"


def test_video_r1_takes_the_first_block_and_falls_back_to_the_whole_text() -> None:
    assert parse.video_r1_answer("x <answer> B </answer> <answer>C</answer>") == "B"
    assert parse.video_r1_answer("B") == "B"
    assert parse.video_r1_answer("<answer></answer>") == "<answer></answer>"
    assert parse.final_answer("<answer>B</answer> no, <answer>C</answer>") == "C"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Yes, it does", "yes"),
        ("No.", "no"),
        ("The answer is yes", "yes"),
        ("nothing moves", None),
        ("I do not know", None),
        ("yes or no", "yes"),
        ("is it yes or no", None),
        ("<answer>no</answer>", "no"),
    ],
)
def test_yes_no_by_whole_word(text: str, expected: str | None) -> None:
    assert parse.extract_yes_no(text) == expected


def test_numbers() -> None:
    assert parse.to_number("1,234.5") == 1234.5
    assert parse.to_number("3 m") is None
    assert parse.to_number("nan") is None
    assert parse.to_number("inf") is None
    assert parse.numbers_in("from -3 to 1,200.5, then 2e3") == [-3.0, 1200.5, 2000.0]


def test_first_word_is_vsi_benchs_reading() -> None:
    assert parse.first_word("<answer>3.5 metres</answer>") == "3.5"
    assert parse.first_word("B. the chair") == "B"
