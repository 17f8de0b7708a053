"""Evidence crosses between processes unchanged, and its key tells what the student reads."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from marc_core.errors import AnswerError
from marc_core.evidence import Citation, Evidence, VisualRun


def make(**changes) -> Evidence:
    values = {
        "before_ids": (1, 2),
        "after_ids": (3,),
        "runs": (VisualRun(ids=(), num_tokens=2), VisualRun(ids=(7, 8), num_tokens=1)),
        "tokens_ND": torch.randn(3, 4, generator=torch.manual_seed(0)).bfloat16(),
        "positions_N3": torch.arange(9).reshape(3, 3),
        "deepstack_LND": torch.randn(2, 3, 4, generator=torch.manual_seed(1)),
        "choices": ("left", "right"),
        "citations": (
            Citation(event_id="v:0:1", video_id="v", uri="/a.mp4", start_s=1.0, end_s=2.5),
        ),
        "source_tokens": 117,
        "vision_fingerprint": "abc",
    }
    return Evidence(**values | changes)


def test_bytes_bring_everything_back():
    evidence = make()
    back = Evidence.from_bytes(evidence.to_bytes())
    for field in dataclasses.fields(Evidence):
        before, after = getattr(evidence, field.name), getattr(back, field.name)
        if isinstance(before, torch.Tensor):
            assert after.dtype == before.dtype
            assert torch.equal(after, before)
        else:
            assert after == before
    assert back.key == evidence.key


@pytest.mark.parametrize(
    "changes",
    [
        {"before_ids": (1,)},
        {"choices": ()},
        {"vision_fingerprint": "other"},
        {"positions_N3": torch.zeros(3, 3, dtype=torch.int64)},
        {"tokens_ND": torch.zeros(3, 4, dtype=torch.bfloat16)},
        {"deepstack_LND": None},
    ],
)
def test_the_key_changes_with_everything_that_the_student_reads(changes):
    assert make(**changes).key != make().key


def test_the_key_does_not_depend_on_what_only_people_read():
    assert make(citations=(), retrieval="bypassed", source_tokens=5).key == make().key


def test_one_frame_of_the_3b_student_is_a_third_of_a_megabyte():
    tokens = torch.zeros(81, 2048, dtype=torch.bfloat16)
    evidence = make(
        tokens_ND=tokens,
        positions_N3=torch.zeros(81, 3, dtype=torch.int64),
        deepstack_LND=None,
        runs=(VisualRun(ids=(), num_tokens=81),),
    )
    assert len(evidence.to_bytes()) < 340_000


def test_other_bytes_are_refused():
    with pytest.raises(AnswerError, match="to_bytes"):
        Evidence.from_bytes(b"not evidence at all")


def test_the_visual_key_leaves_the_question_out():
    key = make().visual_key
    assert make(before_ids=(9,), choices=()).visual_key == key
    for change in ({"positions_N3": torch.zeros(3, 3, dtype=torch.int64)},
                   {"tokens_ND": torch.zeros(3, 4)}, {"vision_fingerprint": "other"}):  # fmt: skip
        assert make(**change).visual_key != key
