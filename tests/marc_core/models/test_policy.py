"""The policy recomputes what the engine recorded, and its gradients are those of a plain pass."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from marc_core.evidence import Evidence
from marc_core.models.answering import answer_all
from marc_core.models.engine import GenerationRequest, SamplingRecord
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
        found = [
            policy_of(engine)(drawn).log_probs,
            policy_of(engine, logits_per_slice=100)(drawn).log_probs,
            policy_of(engine, row_tokens=1)(drawn).log_probs,
        ]
    for log_probs in found:
        for values, completion in zip(log_probs, completions, strict=True):
            recorded = torch.tensor(completion.log_probs)
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
@pytest.mark.parametrize(
    "settings", [{}, {"logits_per_slice": 100}, {"row_tokens": 1}, {"checkpointing": True}],
    ids=lambda s: next(iter(s), "plain"),
)  # fmt: skip
def test_gradients_equal_a_plain_pass(family, settings, engines, make_evidence):
    engine = engines(family)
    drawn, completions = rollouts(engine, make_evidence, 0.7)
    weights = [torch.linspace(-1, 1, len(c.token_ids)) for c in completions]
    gradients, parameters = [], dict(engine.model.named_parameters())
    checkpointing = settings.get("checkpointing", False)
    policy = policy_of(engine, **{k: v for k, v in settings.items() if k != "checkpointing"})
    for compute in (lambda: naive(engine, drawn), lambda: policy(drawn).log_probs):
        engine.model.zero_grad(set_to_none=True)
        if gradients and checkpointing:
            engine.model.activation_checkpointing_enable()
            engine.model.train()
        sum((x * w).sum() for x, w in zip(compute(), weights, strict=True)).backward()
        gradients.append({n: p.grad for n, p in parameters.items() if p.grad is not None})
    engine.model.activation_checkpointing_disable()
    engine.model.eval()
    plain, ours = gradients
    assert set(plain) == set(ours)
    assert any("language_model.layers" in n for n in ours)
    assert not any("visual" in n for n in ours)
    for name, gradient in plain.items():
        torch.testing.assert_close(ours[name], gradient, rtol=1e-3, atol=2e-4)
    engine.model.zero_grad(set_to_none=True)


def prompt_of(tokens: int) -> Evidence:
    """A prompt of text of this length."""
    return Evidence(
        before_ids=tuple(range(8, 8 + tokens)), after_ids=(), runs=(),
        tokens_ND=torch.zeros(0, 32), positions_N3=torch.zeros(0, 3, dtype=torch.long),
    )  # fmt: skip


def question_of(prompt_tokens: int, *sizes: int) -> Drawn:
    record = SamplingRecord(temperature=1.0, suppressed_ids=())
    return Drawn(
        evidence=prompt_of(prompt_tokens), completions=[[9] * n for n in sizes], record=record
    )


def test_micro_batches_put_like_lengths_together(engines):
    policy = policy_of(engines("qwen2_vl"), row_tokens=100)
    # rows: 10 + 1 + 1; 40; 4; 90 + 2 and 90 + 9 (apart: 90 + 2 + 9 > 100); 12
    drawn = [question_of(10, 2, 2), question_of(40, 1), question_of(3, 2), question_of(90, 3, 10),
             question_of(10, 3)]  # fmt: skip
    assert [[len(r[1]) for r in policy.rows([d])] for d in drawn] == [[2], [1], [1], [1, 1], [1]]
    assert micro_batches(policy, drawn, 36) == [[2, 0, 4], [1], [3]]
    assert micro_batches(policy, drawn, 160) == [[2, 0, 4, 1], [3]]
    assert micro_batches(policy, drawn, 10**6) == [[2, 0, 4, 1, 3]]


@pytest.mark.parametrize("temperature", [0.7, 1.0])
def test_entropies_are_those_of_the_distribution_that_was_drawn_from(
    temperature, engines, make_evidence
):
    engine = engines("qwen2_5_vl")
    drawn, _ = rollouts(engine, make_evidence, temperature)
    policy = policy_of(engine)
    with torch.no_grad():
        found = policy(drawn).entropies
        whole = policy.distributions(drawn, 10**6)
    assert len(found) == len(whole)
    for values, distribution in zip(found, whole, strict=True):
        log_probs = distribution.log_probs_CK
        torch.testing.assert_close(log_probs.exp().sum(-1), torch.ones(len(log_probs)))
        by_hand = -(log_probs.exp() * log_probs.clamp_min(-1e4)).sum(-1)
        torch.testing.assert_close(values, by_hand, rtol=1e-4, atol=1e-5)


def test_a_teacher_names_all_that_may_follow_among_choices(engines, make_evidence):
    engine = engines("qwen2_5_vl")
    drawn, _ = rollouts(engine, make_evidence, 1.0)
    found = policy_of(engine).distributions(drawn[1:2], 64)
    for ids, distribution in zip(drawn[1].completions, found, strict=True):
        for at, row in enumerate(distribution.ids_CK):
            allowed = next_ids(drawn[1].record.choice_ids, ids[:at])
            finite = distribution.log_probs_CK[at].isfinite()
            assert sorted(row[finite].tolist()) == sorted(allowed)
    few = policy_of(engine).distributions(drawn[:1], 5)
    assert all(d.ids_CK.shape[1] == 5 for d in few)


def test_a_student_does_not_diverge_from_itself_but_from_another_teacher(engines, make_evidence):
    engine = engines("qwen2_5_vl")
    drawn, _ = rollouts(engine, make_evidence, 1.0)
    policy = policy_of(engine)
    other = [dataclasses.replace(d, evidence=drawn[2].evidence) for d in drawn]
    for teacher_drawn, apart in ((drawn, False), (other, True)):
        teachers = iter(policy.distributions(teacher_drawn, 10**6))
        judged = [
            dataclasses.replace(d, teacher=[next(teachers) for _ in d.completions]) for d in drawn
        ]
        with torch.no_grad():
            reverse, forward = policy(judged).divergences, policy(judged, "forward").divergences
        for values in (torch.cat(reverse), torch.cat(forward)):
            assert values.min() > -1e-5
            assert bool(values.max() > 1e-2) is apart
        if apart:
            assert not torch.allclose(torch.cat(reverse), torch.cat(forward), atol=1e-3)


def test_logits_are_never_held_as_a_whole(engines, make_evidence, monkeypatch):
    engine = engines("qwen2_5_vl")
    drawn, _ = rollouts(engine, make_evidence, 1.0)
    seen = []
    forward = engine.model.lm_head.forward
    monkeypatch.setattr(
        engine.model.lm_head, "forward", lambda x: seen.append(len(x)) or forward(x)
    )
    vocabulary = engine.model.config.get_text_config().vocab_size
    values = policy_of(engine, logits_per_slice=5 * vocabulary)(drawn).log_probs
    torch.cat(values).sum().backward()
    assert max(seen) == 5
    engine.model.zero_grad(set_to_none=True)
