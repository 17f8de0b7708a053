"""Folding the heads: each token becomes the weighted words of what the heads read off it."""

from __future__ import annotations

import pytest
import torch

from marc_core.tiny.align import PARTS, WEIGHTS, fold_heads, head_words
from marc_core.tiny.attributes import HEAD_SIZES, AttributeHeads
from marc_core.tiny.models import StudentSize, build_student
from marc_core.tiny.run import training_words
from marc_core.tiny.tokenizers import build_student_tokenizer
from marc_core.tiny.vision_batch import encode_groups
from marc_core.world.words import COLOURS, SHAPES


@pytest.fixture
def parts():
    torch.manual_seed(0)
    tokenizer = build_student_tokenizer(training_words())
    size = StudentSize(
        vision_width=32, vision_layers=1, vision_heads=2, text_width=64, text_layers=1, text_mlp=32
    )
    return build_student(tokenizer, size), tokenizer, AttributeHeads(64)


def tokens_of(student, patches):
    with torch.no_grad():
        return encode_groups(student.model.visual, patches, (6, 6)).flatten(0, 1)


def test_folded_tokens_are_the_heads_in_words(parts):
    student, tokenizer, heads = parts
    patches = torch.randn(5, 36, 1176)
    before = tokens_of(student, patches)
    with torch.no_grad():
        logits = heads.linear(before)
    words = head_words(student.model.language_model.embed_tokens.weight.detach(), tokenizer)
    fold_heads(student, tokenizer, heads, before)
    after = tokens_of(student, patches)

    radius, lead = sum(HEAD_SIZES[:-1]) + 2, sum(HEAD_SIZES[:2])
    growth = logits[:, radius + 3] - logits[:, radius]
    colours = [logits[:, i : i + HEAD_SIZES[0]] for i in (0, lead)]
    absent = [c[:, -1] for c in colours]
    logits = torch.cat([logits, growth[:, None], (absent[0] - absent[1])[:, None]], dim=1)
    expected, start = torch.zeros_like(after), 0
    for number, (size, weight) in enumerate(zip(PARTS, WEIGHTS, strict=True)):
        block = logits[:, start : start + size]
        if number < len(HEAD_SIZES) - 1:
            block = block - block.mean(dim=1, keepdim=True)
        spread = block.std(dim=0).mean()
        for k in range(size):
            share = weight * (block[:, k] - block[:, k].mean()) / spread
            expected += share[:, None] * words[start + k]
        start += size
    assert torch.allclose(after / after.norm(), expected / expected.norm(), atol=1e-5)


def test_folded_tokens_are_as_long_as_words(parts):
    student, tokenizer, heads = parts
    patches = torch.randn(5, 36, 1176)
    fold_heads(student, tokenizer, heads, tokens_of(student, patches))
    embeddings = student.model.language_model.embed_tokens.weight.detach()
    lengths = tokens_of(student, patches).norm(dim=1)
    assert torch.isclose(lengths.mean(), embeddings.norm(dim=1).mean(), rtol=1e-3)


def test_a_pair_is_its_two_words(parts):
    student, tokenizer, _ = parts
    embeddings = student.model.language_model.embed_tokens.weight.detach()
    pairs = head_words(embeddings, tokenizer)[-10 - len(COLOURS) * len(SHAPES) : -10]
    red, ring = (embeddings[tokenizer.convert_tokens_to_ids(w)] for w in ("red", "ring"))
    row = list(COLOURS).index("red") * len(SHAPES) + list(SHAPES).index("ring")
    assert torch.allclose(pairs[row], red + ring)
