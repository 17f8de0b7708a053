"""A row of a training set comes back as it was written, and a wrong one is named."""

from __future__ import annotations

import pytest
import torch

from marc_core.errors import TrainingError
from marc_core.evidence import Evidence
from marc_core.question import Question
from marc_core.rl.samples import TrainSample


def test_a_sample_survives_a_table():
    evidence = Evidence(
        before_ids=(1,), after_ids=(2, 3), runs=(), tokens_ND=torch.zeros(0, 4),
        positions_N3=torch.zeros(0, 3, dtype=torch.long), choices=("red", "blue"),
    )  # fmt: skip
    sample = TrainSample(
        id="v/3",
        question=Question(text="What colour?", options=("red", "blue"), budget_tokens=9),
        problem_type="multiple choice",
        answers=("B",),
        media="image",
        source="world",
        evidence=evidence.to_bytes(),
        uncut=b"anything",
    )
    again = TrainSample.from_row(sample.to_row())
    assert again == sample
    assert again.is_image
    assert again.student_evidence().key == evidence.key


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"problem_type": "poem"}, "problem_type 'poem'"),
        ({"media": "sound"}, "media 'sound'"),
        ({"question": "not JSON"}, "JSONDecodeError"),
        ({"answers": None}, "TypeError"),
    ],
)
def test_another_row_is_refused_by_name(change, message):
    row = TrainSample(id="v/3", question=Question(text="?"), problem_type="numerical").to_row()
    with pytest.raises(TrainingError, match=rf"'v/3'.*{message}"):
        TrainSample.from_row(row | change)


def test_evidence_that_is_missing_is_said():
    with pytest.raises(TrainingError, match="'v/3' must hold evidence"):
        TrainSample(
            id="v/3", question=Question(text="?"), problem_type="numerical"
        ).student_evidence()
