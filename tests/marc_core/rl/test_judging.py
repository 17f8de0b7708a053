"""What answers are worth, by hand: with a right answer, and with the teacher as the only judge."""

from __future__ import annotations

import pytest

from marc_core.question import Question
from marc_core.rl.config import RewardConfig
from marc_core.rl.judging import has_format, judge
from marc_core.rl.samples import TrainSample


def sample(kind="multiple choice", answers=(), options=()):
    return TrainSample(
        id="q", question=Question(text="?", options=options), problem_type=kind, answers=answers
    )


COLOUR = {"options": ("red", "blue", "green")}


@pytest.mark.parametrize(
    ("kind", "answers", "options", "scoring", "texts", "scores"),
    [
        ("multiple choice", ("B",), ("red", "blue"), "official", ("blue", "B", "red", ""),
         (1, 1, 0, 0)),
        ("numerical", ("4",), (), "official", ("4", "4.00", "about 4", "5"), (1, 1, 1, 0)),
        ("numerical", ("4",), (), "video-r1", ("4", "4.0"), (1, 0)),
        ("regression", ("4",), (), "official", ("4", "3", "none"), (1, 0.6, 0)),
        ("regression", ("4",), (), "video-r1", ("3",), (0.5,)),
        ("OCR", ("a b c d",), (), "video-r1", ("a b c d", "a x c", "x y z u v"), (1, 0.5, 0)),
        ("free-form", ("red cube",), (), "official", ("a red cube", "red"), (1, 0)),
        ("free-form", ("the red cube",), (), "video-r1", ("the red ball",),
         ((2 / 3 + 1 / 2 + 2 / 3) / 3,)),
        ("free-form", ("sofa", "couch"), (), "official", ("the couch", "sofa", "chair"),
         (1, 1, 0)),
    ],
)  # fmt: skip
def test_right_answers_of_every_kind(kind, answers, options, scoring, texts, scores):
    config = RewardConfig(scoring=scoring)
    verdict = judge(sample(kind, answers, options), texts, config)
    assert verdict.scores == pytest.approx(scores)
    assert verdict.right == tuple(s >= 0.5 for s in scores)
    assert verdict.a_full is None


def test_the_gate_opens_at_a_score():
    found = judge(sample("regression", ("4",)), ("3", "4"), RewardConfig(right_from=0.7))
    assert found.right == (False, True)


def test_the_teacher_is_judged_alike():
    config = RewardConfig()
    verdict = judge(
        sample(answers=("B",), **COLOUR), ("blue",), config, teacher=("blue", "B", "red", "C")
    )
    assert verdict.a_full == 0.5


def test_every_choice_is_scored():
    verdict = judge(
        sample(answers=("B",), **COLOUR), (), RewardConfig(), choices=("red", "blue", "green")
    )
    assert verdict.choice_scores == (0.0, 1.0, 0.0)


def test_a_decoded_option_is_not_parsed():
    options = ("the letter", "not option d", "a", "blue")
    asked = sample(answers=("B",), options=options)
    verdict = judge(asked, options, RewardConfig(), teacher=("a", "not option d"), choices=options)
    assert verdict.choice_scores == verdict.scores == (0.0, 1.0, 0.0, 0.0)
    assert verdict.a_full == 0.5
    unlabelled = judge(
        sample(options=options), options, RewardConfig(), teacher=("a",), choices=options
    )
    assert unlabelled.choice_scores == (0.0, 0.0, 1.0, 0.0)
    assert judge(asked, ("a",), RewardConfig()).scores == (0.0,)  # free text: the letter A


def test_without_a_right_answer_the_teacher_s_most_common_one_counts():
    teacher = ("blue", "red", "blue", "B", "no idea")
    verdict = judge(sample(**COLOUR), ("blue", "red"), RewardConfig(), teacher=teacher)
    assert verdict.scores == (1.0, 0.0)
    assert verdict.a_full == pytest.approx(3 / 5)
    texts = judge(
        sample("free-form"), ("a sofa",), RewardConfig(), teacher=("sofa", "chair", "sofa")
    )
    assert texts.scores == (1.0,)


def test_agreement_is_the_share_of_the_teacher_s_answers():
    config = RewardConfig(unlabelled="agreement", least_agreement=0.0)
    verdict = judge(
        sample(**COLOUR), ("blue", "red"), config, teacher=("blue", "blue", "blue", "red")
    )
    assert verdict.scores == (0.75, 0.25)
    # of the 12 ordered pairs of different answers, the 6 among three blues agree
    assert verdict.a_full == pytest.approx(6 / 12)
    alone = judge(sample(**COLOUR), ("blue",), config, teacher=("blue",))
    assert (alone.scores, alone.a_full) == ((1.0,), 1.0)


@pytest.mark.parametrize(
    ("settings", "teacher"),
    [
        ({}, ()),
        ({}, ("no idea", "?")),
        ({}, ("red", "blue", "green")),  # its best answer has a share of a third
        ({"unlabelled": "skip"}, ("blue",)),
        ({"unlabelled": "agreement"}, ("red", "blue", "blue")),  # 2 of 6 pairs
    ],
)
def test_where_nothing_can_tell_there_is_no_verdict(settings, teacher):
    assert judge(sample(**COLOUR), ("red",), RewardConfig(**settings), teacher=teacher) is None


def test_format_and_length_are_rewarded_where_asked_for():
    assert has_format("<think>a\nb</think>\n<answer>B</answer>")
    assert not has_format("<answer>B</answer>")
    assert not has_format("<think>a</think><answer>B</answer> so B")
    tagged = "<think>it is blue</think><answer>B</answer>"
    config = RewardConfig(format_weight=1.0, length_weight=0.2, least_tokens=10, most_tokens=20)
    texts, lengths = (tagged, "B", tagged, "B", "A"), (9, 10, 20, 21, 15)
    verdict = judge(sample(answers=("B",), **COLOUR), texts, config, lengths=lengths)
    assert verdict.bonus == pytest.approx((1.0, 0.2, 1.2, 0.0, 0.0))
    plain = judge(sample(answers=("B",), **COLOUR), texts, RewardConfig(), lengths=lengths)
    assert set(plain.bonus) == {0.0}
