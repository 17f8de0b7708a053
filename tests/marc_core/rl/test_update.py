"""One step on a tiny random student: equal however it is divided, and it learns."""

from __future__ import annotations

import copy
import dataclasses
import math
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from marc_core.errors import TrainingError
from marc_core.models.policy import Policy
from marc_core.rl.config import GuardConfig
from marc_core.rl.guard import Guard
from marc_core.rl.update import make_optimizer, train_step
from marc_core.training.peers import Peers
from tests.marc_core.groups import Descent, Losses, draw, settings

LOSSES = {
    "C-GRPO": {"kl": 0.1},
    "by batch and token": {"advantage": "batch", "average": "token", "ratio": "sequence"},
    "Dr. GRPO, three epochs": {"average": "constant", "epochs": 3},
    "exact": {"expectation": True, "kl": 0.1},
    "taught": {"distillation_weight": 0.5, "policy_weight": 0.0},
    "taught by log-probabilities": {"distillation_weight": 0.5, "distillation": "log_probs"},
    "supervised": {"supervised_weight": 1.0, "policy_weight": 0.0},
    "everything": {"expectation": True, "kl": 0.1, "supervised_weight": 0.3,
                   "distillation_weight": 0.5, "average": "token"},
}  # fmt: skip


def taught(groups, policy):
    """Add what a teacher says that reads the first question's evidence: the student itself."""
    found = []
    for group in groups:
        drawn = [plan_drawn(group, groups[0].evidence)]
        with torch.no_grad():
            log_probs = policy(drawn).log_probs
        found.append(
            dataclasses.replace(
                group,
                teacher=tuple(policy.distributions(drawn, 10**6)),
                teacher_log_probs=tuple(tuple(x.tolist()) for x in log_probs),
            )
        )
    return found


def plan_drawn(group, evidence):
    from marc_core.models.policy import Drawn

    return Drawn(evidence=evidence, completions=group.completions, record=group.record)


def other(policy: Policy) -> Policy:
    """A copy some way from the policy: a reference."""
    model = copy.deepcopy(policy.model)
    generator = torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "visual" not in name:
                parameter += 0.02 * torch.randn(parameter.shape, generator=generator)
    return Policy(model, policy.adapter, pad_id=0)


def step_of(policy, groups, config, **more):
    """Return (metrics, gradients of each epoch, guard) of a step on a copy of the policy."""
    own = Policy(
        copy.deepcopy(policy.model), policy.adapter, pad_id=0, row_tokens=policy.row_tokens
    )
    descent, guard = Descent(own.model), Losses()
    metrics = train_step(own, descent, groups, config, step=0, guard=guard, **more)
    return metrics, descent.gradients, guard


def assert_close(found, expected, *, atol=1e-6):
    for one, another in zip(found, expected, strict=True):
        assert set(one) == set(another)
        for name, gradient in one.items():
            torch.testing.assert_close(gradient, another[name], rtol=1e-4, atol=atol)


@pytest.fixture
def batch(student, make_evidence):
    """(policy, reference, five groups with a teacher)."""
    engine, policy = student
    groups = draw(engine, make_evidence, num=5)
    return policy, other(policy), taught(groups, policy)


@pytest.mark.parametrize("name", LOSSES)
def test_how_a_batch_is_divided_changes_nothing(name, batch):
    policy, reference, groups = batch
    whole = step_of(policy, groups, settings(**LOSSES[name]), reference=reference)
    divided = step_of(policy, groups, settings(**LOSSES[name], micro_tokens=1), reference=reference)
    assert max(g.abs().max() for g in whole[1][0].values()) > 1e-3
    assert_close(divided[1], whole[1], atol=3e-6)  # sums in another order
    for metric, value in whole[0].items():
        assert divided[0][metric] == pytest.approx(value, rel=1e-4, abs=1e-6), metric
    policy.row_tokens = 1
    apart = step_of(policy, groups, settings(**LOSSES[name]), reference=reference)
    assert_close(apart[1], whole[1])


class Threads(Peers):
    """Workers that are threads of this process."""

    def __init__(self, size: int) -> None:
        self.size, self._barrier = size, threading.Barrier(size, timeout=60)
        self._values: dict[int, object] = {}

    def _all(self, value):
        self._values[threading.get_ident()] = value
        self._barrier.wait()
        values = list(self._values.values())
        self._barrier.wait()
        if len(self._values) == self.size:
            self._values = {}
        self._barrier.wait()
        return values

    def sum(self, values):
        return torch.stack(self._all(values)).sum(0)

    def most(self, value):
        return max(self._all(value))


def both(policy, parts, config, **more):
    """Return what `step_of` gives on each of two workers."""
    peers = Threads(2)
    with ThreadPoolExecutor(2) as pool:
        jobs = [pool.submit(step_of, policy, p, config, peers=peers, **more) for p in parts]
        return [job.result() for job in jobs]


@pytest.mark.parametrize("name", LOSSES)
def test_two_workers_equal_one(name, batch):
    """With gradients averaged, as DDP and FSDP do; three questions on one, two on the other."""
    policy, reference, groups = batch
    config = settings(**{**LOSSES[name], "epochs": 1}, micro_tokens=1)
    whole = step_of(policy, groups, config, reference=reference)
    first, second = both(policy, [groups[:3], groups[3:]], config, reference=reference)
    averaged = {n: (g + second[1][0][n]) / 2 for n, g in first[1][0].items()}
    assert_close([averaged], whole[1])
    for metric in set(whole[0]) - {"grad_norm"}:
        assert first[0][metric] == second[0][metric]
        assert first[0][metric] == pytest.approx(whole[0][metric], rel=1e-4, abs=1e-6), metric


def test_a_worker_without_anything_to_learn_takes_part(batch):
    policy, _, groups = batch
    same = dataclasses.replace(groups[0], completions=(groups[0].completions[0],) * 4)
    scores = dataclasses.replace(same.verdict, scores=(1.0,) * 4, right=(True,) * 4)
    idle = dataclasses.replace(same, verdict=scores)
    config = settings(micro_tokens=1)
    whole = step_of(policy, [*groups, idle], config)
    busy, waiting = both(policy, [groups, [idle]], config)
    assert all(g.abs().max() == 0 for g in waiting[1][0].values())
    averaged = {n: g / 2 for n, g in busy[1][0].items()}
    assert_close([averaged], whole[1])


def test_the_rollouts_log_probabilities_are_the_trainer_s(batch):
    policy, _, groups = batch
    metrics, _, _ = step_of(policy, groups, settings())
    assert 0 <= metrics["sampler_gap"] < 1e-5
    for group in groups:
        with torch.no_grad():
            found = policy([plan_drawn(group, group.evidence)]).log_probs
        for values, drawn in zip(found, group.drawn_log_probs, strict=True):
            torch.testing.assert_close(values, torch.tensor(drawn), rtol=0, atol=1e-4)


def test_what_a_step_tells(batch):
    policy, reference, groups = batch
    metrics, _, guard = step_of(policy, groups, settings(kl=0.1), reference=reference)
    scores = [x for g in groups for x in g.verdict.scores]
    drawn = [x for g in groups for row in g.drawn_log_probs for x in row]
    sizes = [len(ids) for g in groups for ids in g.completions]
    assert metrics["score"] == pytest.approx(sum(scores) / len(scores))
    assert metrics["entropy"] == pytest.approx(-sum(drawn) / len(drawn))
    assert metrics["length"] == pytest.approx(sum(sizes) / len(sizes))
    same = [len({*g.verdict.scores}) == 1 for g in groups]
    assert metrics["no_variance"] == pytest.approx(sum(same) / len(same))
    assert metrics["ratio"] == pytest.approx(1.0)
    assert metrics["clip_low"] + metrics["clip_high"] == 0
    assert metrics["kl"] > 0
    assert metrics["a_full"] == pytest.approx(sum(g.verdict.a_full for g in groups) / len(groups))
    assert guard.seen == [(metrics["loss"], metrics["grad_norm"], metrics["entropy"])]
    assert "expected_score" not in metrics


def test_without_a_difference_there_is_no_gradient_and_no_pass(batch):
    policy, _, groups = batch
    verdict = groups[0].verdict
    wrong = dataclasses.replace(verdict, scores=(0.0,) * 4, right=(False,) * 4)
    metrics, gradients, _ = step_of(
        policy, [dataclasses.replace(groups[0], verdict=wrong)], settings()
    )
    assert gradients == [{}]
    assert (metrics["tokens"], metrics["loss"], metrics["no_variance"]) == (0, 0, 1)


def test_retention_favours_what_is_kept(batch):
    """Without division by the spread, alpha multiplies a kept group's gradient by 1 + r_c."""
    policy, _, groups = batch
    kept = next(g for g in groups if 0 < sum(g.verdict.scores) < 4)
    a_comp = sum(kept.verdict.scores) / 4
    kept = dataclasses.replace(kept, verdict=dataclasses.replace(kept.verdict, a_full=a_comp))
    plain = step_of(policy, [kept], settings(alpha=0.0))
    paid = step_of(policy, [kept], settings(alpha=1.0, tau=0.6))
    assert paid[0]["r_c"] == pytest.approx(0.4)
    for name, gradient in plain[1][0].items():
        torch.testing.assert_close(paid[1][0][name], 1.4 * gradient, rtol=1e-4, atol=1e-6)
    divided = [step_of(policy, [kept], settings(alpha=a, advantage="group")) for a in (0.0, 1.0)]
    for name, gradient in divided[0][1][0].items():
        torch.testing.assert_close(divided[1][1][0][name], gradient, rtol=1e-3, atol=1e-6)


def test_answers_of_older_weights_are_weighted(batch):
    policy, _, groups = batch
    group = next(g for g in groups if 0 < sum(g.verdict.scores) < 4)
    shifted = tuple(tuple(x - 0.1 for x in row) for row in group.drawn_log_probs)
    old = dataclasses.replace(group, drawn_log_probs=shifted, version=-2)
    weights = [min(math.exp(0.1 * len(ids)), 1.25) for ids in group.completions]
    metrics, gradients, _ = step_of(policy, [old], settings(most_stale_weight=1.25))
    assert metrics["stale_weight"] == pytest.approx(sum(weights) / 4, rel=1e-4)
    assert metrics["versions_behind"] == 2
    assert "sampler_gap" not in metrics
    fresh, plain, _ = step_of(policy, [group], settings())
    assert "stale_weight" not in fresh
    if len(set(weights)) == 1:
        for name, gradient in plain[0].items():
            expected = gradient * weights[0]
            torch.testing.assert_close(gradients[0][name], expected, rtol=1e-4, atol=1e-6)


def test_the_exact_expectation_is_what_many_samples_tend_to(student, make_evidence):
    engine, policy = student
    few = draw(engine, make_evidence, num=1, kinds="closed")
    many = draw(engine, make_evidence, num=1, kinds="closed", n=4000)
    exact = step_of(policy, few, settings(alpha=0.0, expectation=True))
    # the policy gradient itself sums over an answer's tokens, where GRPO takes their mean
    sampled = step_of(policy, many, settings(alpha=0.0, average="constant", max_tokens=1))
    assert exact[0]["expected_score"] == pytest.approx(sampled[0]["score"], abs=0.03)
    first = torch.cat([g.flatten() for g in exact[1][0].values()])
    second = torch.cat([g.flatten() for g in sampled[1][0].values()])
    assert torch.nn.functional.cosine_similarity(first, second, dim=0) > 0.98
    assert second.norm().item() == pytest.approx(first.norm().item(), rel=0.1)


def test_truncated_answers_are_left_out_where_that_is_asked_for(batch):
    policy, _, groups = batch
    cut = [dataclasses.replace(g, truncated=(True,) * 4) for g in groups]
    metrics, gradients, _ = step_of(policy, cut, settings(mask_truncated=True))
    assert metrics["truncated"] == 1.0
    assert all(g.abs().max() == 0 for g in gradients[0].values())
    counted, _, _ = step_of(policy, cut, settings())
    assert counted["grad_norm"] > 0


TOY = {
    "C-GRPO": {},
    "exact": {"expectation": True},
    "supervised": {"supervised_weight": 1.0, "policy_weight": 0.0},
    "taught": {"distillation_weight": 1.0, "policy_weight": 0.0},
    "taught by log-probabilities": {
        "distillation_weight": 1.0, "policy_weight": 0.0, "distillation": "log_probs"
    },
}  # fmt: skip


@pytest.mark.parametrize(
    "name",
    [n if n != "taught" else pytest.param(n, marks=pytest.mark.slow) for n in TOY],
)
def test_steps_raise_the_expected_reward(name, student, make_evidence):
    """Rollout, judge, step; the teacher is the student after supervised steps."""
    engine, policy = student
    teacher = None
    if "taught" in name:
        teacher = other(policy)
        learn(teacher, draw(engine, make_evidence, num=2, kinds="closed"), TOY["supervised"], 30)
    before = expected_score(policy, draw(engine, make_evidence, num=2, kinds="closed"))
    config = settings(**TOY[name], learning_rate=1e-2)
    optimizer, guard = make_optimizer(policy, config), Guard(GuardConfig())
    for step in range(12):
        groups = draw(
            engine, make_evidence, num=2, kinds="closed", n=8, seed=100 * step, version=step
        )
        if teacher is not None:
            groups = [
                dataclasses.replace(
                    g,
                    teacher=tuple(teacher.distributions([plan_drawn(g, g.evidence)], 64)),
                    teacher_log_probs=tuple(
                        tuple(x.detach().tolist())
                        for x in teacher([plan_drawn(g, g.evidence)]).log_probs
                    ),
                )
                for g in groups
            ]
        train_step(policy, optimizer, groups, config, step=step, guard=guard)
    after = expected_score(policy, groups)
    assert after > before + 0.3


def learn(policy, groups, values, steps):
    config = settings(**values, learning_rate=1e-2)
    optimizer, guard = make_optimizer(policy, config), Guard(GuardConfig())
    for step in range(steps):
        train_step(policy, optimizer, groups, config, step=step, guard=guard)


def expected_score(policy, groups):
    """The exact chance of a right answer, mean over the questions."""
    config = settings(expectation=True)
    metrics, _, _ = step_of(policy, groups, config)
    return metrics["expected_score"]


def test_what_is_not_finite_leaves_the_weights_alone(batch):
    policy, _, groups = batch
    broken = dataclasses.replace(
        groups[0].evidence, tokens_ND=groups[0].evidence.tokens_ND * torch.nan
    )
    before = {n: p.clone() for n, p in policy.model.named_parameters()}
    config = settings(supervised_weight=1.0)
    guard = Guard(GuardConfig(), checkpoint="runs/x/checkpoint")
    with pytest.raises(TrainingError, match=r"step 41.*not finite.*runs/x/checkpoint"):
        train_step(
            policy, make_optimizer(policy, config),
            [*groups[1:], dataclasses.replace(groups[0], evidence=broken)], config,
            step=41, guard=guard,
        )  # fmt: skip
    for name, parameter in policy.model.named_parameters():
        assert torch.equal(parameter, before[name])


def test_only_the_language_model_is_trained(batch):
    policy, _, groups = batch
    before = {n: p.clone() for n, p in policy.model.named_parameters()}
    config = settings(supervised_weight=1.0)
    for kind in ("muon", "adamw"):
        own = dataclasses.replace(
            config, optimizer=dataclasses.replace(config.optimizer, kind=kind)
        )
        optimizer = make_optimizer(policy, own)
        assert len(optimizer._parts) == (2 if kind == "muon" else 1)
        train_step(policy, optimizer, groups, own, step=0, guard=Losses())
    changed = {n for n, p in policy.model.named_parameters() if not torch.equal(p, before[n])}
    assert changed
    assert not any("visual" in name for name in changed)
