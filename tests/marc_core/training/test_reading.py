"""First weights of attention: words look at words, and at the visual tokens that hold them."""

from __future__ import annotations

import pytest
import torch

from marc_core.training.reading import GATHER, MARK, MATCH
from marc_core.training.run import training_words
from marc_core.training.tiny_models import StudentSize, build_student
from marc_core.training.tokenizers import build_student_tokenizer

SEEN = ("red", "ring", "blue", "square")
"""Words that stand in for visual tokens: without the mark that text has."""


@pytest.fixture(scope="module")
def looks():
    """Attention (layers, heads, S, S) of: four visual words, "what colour is the ring ?"."""
    torch.manual_seed(0)
    tokenizer = build_student_tokenizer(training_words())
    student = build_student(tokenizer, StudentSize()).eval()
    embed = student.model.language_model.embed_tokens.weight.detach()
    mark = embed.mean(dim=0)
    assert mark.norm() == pytest.approx(MARK, abs=0.15)
    visual = embed[[tokenizer.convert_tokens_to_ids(w) for w in SEEN]] - mark
    asked = tokenizer("what colour is the ring ?", add_special_tokens=False).input_ids
    inputs = torch.cat([visual, embed[asked]]).unsqueeze(0)
    student.set_attn_implementation("eager")
    with torch.no_grad():
        out = student.model.language_model(inputs_embeds=inputs, output_attentions=True)
    return torch.stack([a[0] for a in out.attentions])


def test_gathering_heads_read_the_text(looks):
    to_text = looks[0, list(GATHER)][:, -1, len(SEEN) :].sum(-1)
    assert (to_text > 0.9).all()


def test_matching_heads_find_the_word_in_the_video(looks):
    ring = len(SEEN) + 4
    to_seen = looks[0, list(MATCH)][:, ring, : len(SEEN)]
    assert (to_seen.sum(-1) > 0.9).all()
    assert (to_seen.argmax(-1) == SEEN.index("ring")).all()
    assert (to_seen.max(-1).values > 0.8).all()


def test_the_last_word_of_a_question_finds_what_was_asked_about(looks):
    to_seen = looks[1, list(MATCH)].mean(0)[-1, : len(SEEN)]
    assert to_seen.argmax() == SEEN.index("ring")
