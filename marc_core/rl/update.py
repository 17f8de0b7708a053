"""One optimiser step of C-GRPO as a plain function, on one worker or as one of several.

    groups -> rewards -> advantages (spread over all workers) -> plans: what must be computed
      for each epoch:
        for each micro-batch: policy -> objective -> backward     (gradients add up)
        all workers: loss and counts summed; gradient clipped; guard; optimiser

A micro-batch divides by counts of the whole batch, so results depend neither on how a batch is
divided nor on the number of workers. Log-probabilities under the weights that the step starts
with ("old") are those of the first epoch's own passes: no pass of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn

from marc_core.models.policy import Drawn, Policy, Scored, micro_batches
from marc_core.rl.advantage import advantages, has_variance, moments, spread_of
from marc_core.rl.config import CGrpoConfig
from marc_core.rl.group import Group, Plan, Rewards, plan_of, rewards_of
from marc_core.rl.guard import Guard
from marc_core.rl.objective import WATCHED, Counts, Objective, Part
from marc_core.rl.tally import Tally
from marc_core.training.loop import learning_rate
from marc_core.training.optimizer import MuonAdamW
from marc_core.training.peers import Peers

Scorer = Callable[[Sequence[Drawn]], Scored]
"""A reference: a frozen policy, or a LoRA student with its adapter turned off."""

OF_REWARDS = (
    "reward", "score", "a_full", "eta", "r_c", "no_variance", "entropy", "length", "truncated",
    "versions_behind",
)  # fmt: skip
"""What a step watches besides the objective's terms."""


def train_step(
    policy: nn.Module,
    optimizer: MuonAdamW,
    groups: Sequence[Group],
    config: CGrpoConfig,
    *,
    step: int,
    guard: Guard,
    reference: Scorer | None = None,
    peers: Peers | None = None,
) -> dict[str, float]:
    """Change the policy's weights by one batch of groups; return what the step looked like.

    policy: a `Policy`, or one wrapped for several workers (DDP, FSDP). groups: this worker's, one
    at least. step: steps done before, which is also the version of the weights that are trained.
    reference: for loss.kl. peers: the other workers; all call at once. Raises TrainingError
    (`Guard`) before weights change that would be worse. Metrics are means over all workers:
    WATCHED and OF_REWARDS, and loss, grad_norm, learning_rate and tokens (trained).
    """
    peers = peers or Peers()
    found = rewards_of(groups, config.reward)
    tally = Tally((*OF_REWARDS, *WATCHED))
    _watch(groups, found, step, tally)
    entropy = tally.means(peers).get("entropy")
    parts, spare = _parts(policy, groups, found, config, peers)
    rounds = peers.most(len(parts))
    if config.loss.kl:
        assert reference is not None, "a KL anchor needs a reference"
        _score_reference(reference, parts, spare, rounds)
    counts = Counts(*peers.sum(Counts.of(groups, config.loss)).tolist())
    most = config.rollout.max_tokens
    objective = Objective(config.loss, config.reward, counts, most, step, tally)
    own = config.optimizer
    rate = learning_rate(step, config.steps, own.learning_rate, own.final_rate)
    optimizer.set_rate(rate)
    loss = norm = 0.0
    for _ in range(config.loss.epochs):
        share = _backward(policy, parts, spare, objective, config, rounds, peers)
        loss = float(peers.sum(torch.tensor(share, dtype=torch.float64)))
        norm = _norm(nn.utils.clip_grad_norm_(optimizer.parameters, config.clip_norm))
        guard.check(step, loss, norm, entropy)
        optimizer.step()
    plans = [plan for part in parts for plan in part.plans]
    tokens = sum(len(ids) for plan in plans for ids in plan.drawn.completions)
    return tally.means(peers) | {
        "loss": loss,
        "grad_norm": norm,
        "learning_rate": rate,
        "tokens": float(peers.sum(torch.tensor(float(tokens)))),
    }


def make_optimizer(policy: nn.Module, config: CGrpoConfig) -> MuonAdamW:
    """Return the optimiser of all that is not frozen (`models.policy.freeze_vision`)."""
    return MuonAdamW(
        policy,
        muon_scale=config.optimizer.muon_scale,
        weight_decay=config.weight_decay,
        muon=config.optimizer.kind == "muon",
    )


def _parts(
    policy: nn.Module,
    groups: Sequence[Group],
    found: Rewards,
    config: CGrpoConfig,
    peers: Peers,
) -> tuple[list[Part], Drawn]:
    """Return this worker's micro-batches, and a small question for rounds without one."""
    spread = None
    if config.loss.advantage == "batch":
        spread = spread_of(peers.sum(moments(found.reward_QG, found.mask_QG)))
    advantages_QG = advantages(
        found.reward_QG, scale=config.loss.advantage, mask_QG=found.mask_QG, batch_std=spread
    )
    differs_Q = has_variance(found.reward_QG, found.mask_QG)
    plans: list[Plan] = []
    own: list[torch.Tensor] = []
    for group, row_G, differs in zip(groups, advantages_QG, differs_Q.tolist(), strict=True):
        plan = plan_of(group, config.loss, differs=differs)
        if plan is not None:
            plans.append(plan)
            own.append(row_G[: len(group.completions)])
    base: Any = getattr(policy, "module", policy)
    assert isinstance(base, Policy), "a Policy, or a wrapper around one"
    divided = micro_batches(base, [p.drawn for p in plans], config.optimizer.micro_tokens)
    parts = [Part([plans[i] for i in part], [own[i] for i in part]) for part in divided]
    first = groups[0]
    sequence = (first.completions or first.record.choice_ids or (first.target,))[0]
    return parts, Drawn(evidence=first.evidence, completions=[sequence], record=first.record)


def _score_reference(reference: Scorer, parts: Sequence[Part], spare: Drawn, rounds: int) -> None:
    """As many rounds on every worker, like `_backward`."""
    with torch.no_grad():
        for part in parts:
            part.reference = reference([plan.drawn for plan in part.plans]).log_probs
        for _ in range(rounds - len(parts)):
            reference([spare])


def _backward(
    policy: nn.Module,
    parts: Sequence[Part],
    spare: Drawn,
    objective: Objective,
    config: CGrpoConfig,
    rounds: int,
    peers: Peers,
) -> float:
    """Add up the gradients of all parts; return this worker's share of the loss.

    rounds: parts of the worker with most of them; every worker takes as many, because FSDP gathers
    weights in each pass and waits for all. Wrappers average gradients, and the loss is divided by
    counts of all workers: so it is multiplied by their number.
    """
    device = next(policy.parameters()).device
    total = 0.0
    for i in range(rounds):
        with (
            _gathering(policy, last=i == rounds - 1),
            torch.autocast(device.type, torch.bfloat16, enabled=config.optimizer.autocast),
        ):
            if i < len(parts):
                drawn = [plan.drawn for plan in parts[i].plans]
                loss = objective(parts[i], policy(drawn, config.loss.direction))
            else:
                loss = policy([spare]).log_probs[0].sum() * 0.0
            torch.autograd.backward(loss * peers.size)
        total += float(loss.detach())
    return total


def _gathering(policy: nn.Module, *, last: bool) -> AbstractContextManager[Any]:
    """DDP averages gradients once, with the last part's."""
    no_sync: Any = getattr(policy, "no_sync", None)
    return nullcontext() if last or no_sync is None else no_sync()


def _norm(norm: Any) -> float:
    """Return a gradient's norm, also of sharded weights."""
    return float(norm.full_tensor() if hasattr(norm, "full_tensor") else norm)


def _watch(groups: Sequence[Group], found: Rewards, step: int, tally: Tally) -> None:
    """Count what is known before anything is computed."""
    tally.add("reward", found.reward_QG[found.mask_QG].sum(), found.mask_QG.sum())
    for name, values_Q in (
        ("score", found.a_comp_Q), ("a_full", found.a_full_Q), ("eta", found.eta_Q),
        ("r_c", found.r_c_Q.where(found.eta_Q.isfinite(), torch.nan)),
    ):  # fmt: skip
        known = values_Q[values_Q.isfinite()]
        tally.add(name, known.sum(), len(known))
    there_Q = found.mask_QG.any(-1)
    same_Q = ~has_variance(found.reward_QG, found.mask_QG) & there_Q
    tally.add("no_variance", same_Q.sum(), there_Q.sum())
    drawn = [x for g in groups for row in g.drawn_log_probs for x in row]
    tally.add("entropy", -sum(drawn), len(drawn))
    lengths = [len(ids) for g in groups for ids in g.completions]
    tally.add("length", sum(lengths), len(lengths))
    tally.add("truncated", sum(sum(g.truncated) for g in groups), len(lengths))
    behind = [step - g.version for g in groups if g.completions]
    tally.add("versions_behind", sum(behind), len(behind))
