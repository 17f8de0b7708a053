"""Packed questions: each gets the logits that it would get alone, through the product's path."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from marc_core.compress import CompressedVideo
from marc_core.evidence import Evidence
from marc_core.models.adapters import make_adapter
from marc_core.models.inputs import collate
from marc_core.models.sampling import answer_ids
from marc_core.models.student_files import evidence_prompt
from marc_core.tiny.models import StudentSize, build_student
from marc_core.tiny.packing import (
    IGNORE,
    PackedTurns,
    answer_hidden,
    pack,
    turn_ids,
)
from marc_core.tiny.tokenizers import build_student_tokenizer
from marc_core.tiny.vision_batch import encode_groups

SIZE = StudentSize(
    vision_width=32, vision_layers=2, vision_heads=2, text_width=64, text_layers=2, text_mlp=64
)
QUESTIONS = (
    ("Which colour is the circle?", "red"),
    ("Is there a red ring?", "no , not red"),
    ("red", "the circle is red " * 12),
    ("Is", "red"),
)


@pytest.fixture(scope="module")
def student():
    torch.manual_seed(0)
    tokenizer = build_student_tokenizer(
        ["Which", "colour", "is", "the", "circle", "red", "there", "a"]
    )
    model = build_student(tokenizer, SIZE).eval()
    return SimpleNamespace(model=model, tokenizer=tokenizer)


def _sample(student: SimpleNamespace, groups: int, seed: int) -> PackedTurns:
    torch.manual_seed(seed)
    turns = tuple(turn_ids(student.tokenizer, *q) for q in QUESTIONS)
    times = torch.arange(groups) * 2.0 + 0.5
    return PackedTurns(torch.randn(groups, 4, 64), times, (2, 2), turns)


def test_packed_questions_equal_the_products_own_path(student):
    samples = [_sample(student, 5, 1), _sample(student, 2, 2)]
    config = student.model.config
    batch = pack(
        samples,
        tokenizer=student.tokenizer,
        video_token=config.video_token_id,
        per_second=config.vision_config.tokens_per_second,
    )
    with torch.no_grad():
        hidden, targets = answer_hidden(student.model, batch)
        packed = student.model.lm_head(hidden)
    alone, expected = [], []
    for sample in samples:
        video = CompressedVideo(sample.features_KPD, sample.grid_hw, sample.times_K, *_rest(sample))
        for question, answer in QUESTIONS:
            ids = _answer(student, answer)
            inputs = _inputs(student, question, video, ids)
            with torch.no_grad():
                logits = student.model(**inputs, logits_to_keep=len(ids) + 1).logits
            alone.append(logits[0, :-1])
            expected.append(torch.tensor(ids))
    assert torch.equal(targets, torch.cat(expected))
    assert (packed - torch.cat(alone)).abs().max() < 1e-5


def _answer(student: SimpleNamespace, text: str) -> tuple[int, ...]:
    return answer_ids(text, student.tokenizer, student.tokenizer.eos_token_id)


def _inputs(student: SimpleNamespace, question: str, video: CompressedVideo, answer: tuple) -> dict:
    """What engine and policy give the model for one question and its answer."""
    adapter = make_adapter(student.model.config)
    prompt = evidence_prompt(question, video, tokenizer=student.tokenizer, adapter=adapter)
    evidence = Evidence(
        before_ids=prompt.before_ids,
        after_ids=prompt.after_ids,
        runs=prompt.runs,
        positions_N3=prompt.positions_N3,
        tokens_ND=video.groups_KPD.flatten(0, 1),
    )
    return collate(
        [evidence],
        adapter,
        pad_id=0,
        device=torch.device("cpu"),
        dtype=torch.float32,
        completions=[answer],
    )


def _rest(sample: PackedTurns) -> tuple:
    """Fields of CompressedVideo after the first three."""
    return (len(sample.features_KPD),)


def test_only_answers_have_labels(student):
    batch = pack(
        [_sample(student, 1, 0)],
        tokenizer=student.tokenizer,
        video_token=student.model.config.video_token_id,
        per_second=2.0,
    )
    labels = batch.labels_S[batch.labels_S != IGNORE].tolist()
    expected = [t for _, a in QUESTIONS for t in _answer(student, a)]
    assert labels == expected


def test_batched_vision_equals_the_library(student):
    torch.manual_seed(3)
    patches = torch.randn(3, 36, 3 * 2 * 14 * 14)
    visual = student.model.model.visual
    with torch.no_grad():
        ours = encode_groups(visual, patches, (6, 6))
        grid = torch.tensor([[2, 6, 6], [1, 6, 6]])
        theirs = visual(patches.flatten(0, 1), grid_thw=grid).pooler_output
    assert (ours.flatten(0, 1) - theirs).abs().max() < 1e-5


def test_batched_vision_refuses_a_wrong_grid(student):
    with pytest.raises(ValueError, match="grid_hw"):
        encode_groups(student.model.model.visual, torch.randn(1, 36, 1176), (4, 4))
