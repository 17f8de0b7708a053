"""First weights of attention: words look at words, and at the visual tokens that hold them."""

from __future__ import annotations

import pytest
import torch

from marc_core.tiny.models import StudentSize, build_student
from marc_core.tiny.reading import GATHER, MARK, MATCH, READING_LAYERS
from marc_core.tiny.run import training_words
from marc_core.tiny.tokenizers import build_student_tokenizer

SEEN = ("red", "ring", "blue", "square")
"""Words that stand in for visual tokens: without the mark that text has."""


class _Fresh:
    """A fresh student that sees four visual words and is asked what colour something is."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.tokenizer = build_student_tokenizer(training_words())
        self.student = build_student(self.tokenizer, StudentSize()).eval()
        self.student.set_attn_implementation("eager")
        self.embed = self.student.model.language_model.embed_tokens.weight.detach()

    def words(self, *words: str) -> torch.Tensor:
        return self.embed[[self.tokenizer.convert_tokens_to_ids(w) for w in words]]

    def run(self, thing: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Return attention (layers, heads, S, S) and states (layers + 1, S, D)."""
        mark = self.embed.mean(dim=0)
        assert mark.norm() == pytest.approx(MARK, abs=0.15)
        asked = f"what colour is the {thing} ?"
        ids = self.tokenizer(asked, add_special_tokens=False).input_ids
        inputs = torch.cat([self.words(*SEEN) - mark, self.embed[ids]]).unsqueeze(0)
        with torch.no_grad():
            out = self.student.model.language_model(
                inputs_embeds=inputs, output_attentions=True, output_hidden_states=True
            )
        attention, states = out.attentions, out.hidden_states
        return torch.stack([a[0] for a in attention]), torch.stack([h[0] for h in states])


@pytest.fixture(scope="module")
def fresh():
    return _Fresh()


@pytest.fixture(scope="module")
def looks(fresh):
    return fresh.run("ring")[0]


def test_gathering_heads_read_the_text(looks):
    to_text = looks[0, list(GATHER)][:, -1, len(SEEN) :].sum(-1)
    assert (to_text > 0.9).all()


def test_matching_heads_find_the_word_in_the_video(looks):
    ring = len(SEEN) + 4
    to_seen = looks[0, list(MATCH)][:, ring, : len(SEEN)]
    assert (to_seen.sum(-1) > 0.9).all()
    assert (to_seen.argmax(-1) == SEEN.index("ring")).all()
    assert (to_seen.max(-1).values > 0.8).all()


def test_the_last_word_of_a_question_gathers_what_is_asked_about(fresh):
    ring, square = (fresh.run(thing)[1][1, -1] for thing in ("ring", "square"))
    r, s, red, blue = fresh.words("ring", "square", "red", "blue")
    alike = torch.nn.functional.cosine_similarity
    assert alike(ring - square, r - s, dim=0) > 0.4
    assert abs(alike(ring - square, red - blue, dim=0)) < 0.2


def test_layers_behind_the_reading_ones_add_nothing_at_first(fresh):
    states = fresh.run("ring")[1]
    for layer in range(READING_LAYERS):
        assert not torch.allclose(states[layer], states[layer + 1], atol=1e-2)
    assert torch.equal(states[READING_LAYERS], states[READING_LAYERS + 1])
