"""The policy recomputes what the engine recorded, and its gradients are those of a plain pass."""

from __future__ import annotations

import pytest
import torch

from marc_core.models.answering import answer_all
from marc_core.models.engine import GenerationRequest
from marc_core.models.inputs import collate
from marc_core.models.policy import Drawn, Policy, micro_batches
from marc_core.models.sampling import next_ids
from marc_core.models.transformers_engine import TransformersEngine
from marc_core.question import Sampling

FAMILIES = ["qwen2_vl", "qwen2_5_vl", "qwen3_vl"]
CHOICES = ("the letter", "right option a", "a")


@pytest.fixture(scope="module")
def engines(student_config):
    made = {}

    def get(family):
        if family not in made:
            made[family] = TransformersEngine(student_config(family))
        return made[family]

    yield get
    for engine in made.values():
        engine.close()


def rollouts(engine, make_evidence, temperature):
    """Ragged groups: three of visual evidence, one of text; two of them among choices."""
    evidences = [
        make_evidence(engine.config, "what is red ?", groups=2, seed=1),
        make_evidence(engine.config, "a ?", groups=1, seed=2, size=(32, 16), choices=CHOICES),
        make_evidence(engine.config, "is the A blue ?", groups=0),
        make_evidence(engine.config, "what is the letter ?", groups=3, seed=4, choices=CHOICES),
    ]
    done = answer_all(
        engine,
        [
            GenerationRequest(
                id=str(i),
                evidence=e,
                sampling=Sampling(temperature=temperature, n=3 + i, seed=7, max_tokens=5 + i),
            )
            for i, e in enumerate(evidences)
        ],
    )
    groups = [[c for c in done if c.request_id == str(i)] for i in range(len(evidences))]
    drawn = [
        Drawn(evidence=e, completions=[c.token_ids for c in g], record=g[0].sampling)
        for e, g in zip(evidences, groups, strict=True)
    ]
    return drawn, [c for g in groups for c in g]


def policy_of(engine, **settings):
    return Policy(engine.model, engine.files.adapter, pad_id=0, **settings)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("temperature", [0.0, 0.7, 1.0])
def test_it_equals_what_the_engine_recorded(family, temperature, engines, make_evidence):
    engine = engines(family)
    drawn, completions = rollouts(engine, make_evidence, temperature)
    with torch.no_grad():
        found = policy_of(engine)(drawn)
        small = [x for part in micro_batches(drawn, 4) for x in policy_of(engine)(part)]
        sliced = policy_of(engine, logits_per_slice=100)(drawn)
    assert len(found) == len(completions)
    for ours, apart, cut, completion in zip(found, small, sliced, completions, strict=True):
        recorded = torch.tensor(completion.log_probs)
        for values in (ours, apart, cut):
            torch.testing.assert_close(values, recorded, rtol=0, atol=1e-4)


def naive(engine, drawn):
    """Whole sequences, whole logits: one row a completion."""
    found = []
    for group in drawn:
        for ids in group.completions:
            inputs = collate(
                [group.evidence],
                engine.files.adapter,
                pad_id=0,
                device=engine.device,
                dtype=engine.dtype,
                completions=[ids],
            )
            logits = engine.model(**inputs).logits[0, -len(ids) - 1 : -1]
            logits = logits / (group.record.temperature or 1.0)
            values = []
            for at, token in enumerate(ids):
                blocked = torch.zeros(logits.shape[1], dtype=torch.bool)
                blocked[list(group.record.suppressed_ids)] = True
                own = next_ids(group.record.choice_ids, ids[:at])
                if own:
                    kept = torch.zeros_like(blocked)
                    kept[own] = True
                    blocked |= ~kept
                values.append(logits[at].masked_fill(blocked, -torch.inf).log_softmax(-1)[token])
            found.append(torch.stack(values))
    return found


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("slice_size", [100, 10**6])
def test_gradients_equal_a_plain_pass(family, slice_size, engines, make_evidence):
    engine = engines(family)
    drawn, completions = rollouts(engine, make_evidence, 0.7)
    weights = [torch.linspace(-1, 1, len(c.token_ids)) for c in completions]
    gradients, parameters = [], dict(engine.model.named_parameters())
    for compute in (lambda: naive(engine, drawn), lambda: policy_of(
        engine, logits_per_slice=slice_size)(drawn)):  # fmt: skip
        engine.model.zero_grad(set_to_none=True)
        sum((x * w).sum() for x, w in zip(compute(), weights, strict=True)).backward()
        gradients.append({n: p.grad for n, p in parameters.items() if p.grad is not None})
    plain, ours = gradients
    assert set(plain) == set(ours)
    assert any("language_model.layers" in n for n in ours)
    assert not any("visual" in n for n in ours)
    for name, gradient in plain.items():
        torch.testing.assert_close(ours[name], gradient, rtol=1e-3, atol=2e-4)
    engine.model.zero_grad(set_to_none=True)


def test_micro_batches_hold_whole_questions():
    drawn = [Drawn(evidence=None, completions=[[1]] * n, record=None) for n in (3, 4, 9, 1)]
    assert [[len(d.completions) for d in p] for p in micro_batches(drawn, 8)] == [[3, 4], [9], [1]]


def test_logits_are_never_held_as_a_whole(engines, make_evidence, monkeypatch):
    engine = engines("qwen2_5_vl")
    drawn, _ = rollouts(engine, make_evidence, 1.0)
    seen = []
    forward = engine.model.lm_head.forward
    monkeypatch.setattr(
        engine.model.lm_head, "forward", lambda x: seen.append(len(x)) or forward(x)
    )
    vocabulary = engine.model.config.get_text_config().vocab_size
    values = policy_of(engine, logits_per_slice=5 * vocabulary)(drawn)
    torch.cat(values).sum().backward()
    assert max(seen) == 5
    engine.model.zero_grad(set_to_none=True)
