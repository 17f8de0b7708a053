"""With alpha = 0 a step's losses and gradients are those of TRL's GRPO on the same batch.

TRL scores, scales and differentiates the same prompts, completions and rewards with the same
weights, twice: once on policy, and once more after a step of plain descent, where ratios differ
from 1 and some are clipped.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from marc_core.evidence import Evidence
from marc_core.models.adapters import make_adapter
from marc_core.models.engine import SamplingRecord
from marc_core.models.policy import Policy
from marc_core.rl.config import CGrpoConfig, LossConfig, OptimizerConfig, RewardConfig
from marc_core.rl.group import Group
from marc_core.rl.judging import Verdict
from marc_core.rl.update import train_step

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")

PROMPTS = ("what is red ?", "is the A blue ?")
END = 2
COMPLETIONS = (
    ((8, 9, END), (10, END), (8, 9, END), (11, 12, 13, 14, END)),
    ((9, END), (10, 11), (9, END), (12, END)),  # the second one was cut off
)
REWARDS = ((1.0, 0.0, 1.0, 0.5), (1.0, 0.0, 0.25, 0.0))
LONGEST, RATE = 6, 0.004

CASES: dict[str, tuple[dict[str, Any], dict[str, Any], float]] = {
    "the paper's": (
        {"advantage": "group", "kl": 0.1},
        {"loss_type": "grpo", "beta": 0.1, "use_bias_correction_kl": False},
        1.0,
    ),
    "a corrected anchor": (
        {"advantage": "group", "kl": 0.1, "kl_corrected": True},
        {"loss_type": "grpo", "beta": 0.1, "use_bias_correction_kl": True},
        1.0,
    ),
    "batch scale, hot": (
        {"advantage": "batch"}, {"loss_type": "grpo", "scale_rewards": "batch"}, 1.5
    ),
    "all tokens alike": (
        {"advantage": "group", "average": "token", "clip_high": 0.28},
        {"loss_type": "bnpo", "epsilon_high": 0.28},
        0.7,
    ),
    "Dr. GRPO": (
        {"advantage": "none", "average": "constant"},
        {"loss_type": "dr_grpo", "scale_rewards": "none"},
        1.0,
    ),
    "GSPO": (
        {"advantage": "group", "ratio": "sequence", "clip_low": 0.01, "clip_high": 0.02},
        {"loss_type": "grpo", "importance_sampling_level": "sequence", "epsilon": 0.01,
         "epsilon_high": 0.02},
        1.0,
    ),
    "without truncated answers": (
        {"advantage": "group", "mask_truncated": True},
        {"loss_type": "grpo", "mask_truncated_completions": True},
        1.0,
    ),
}  # fmt: skip


class Descent:
    """Plain gradient descent that keeps the gradients it was given."""

    def __init__(self, model: torch.nn.Module) -> None:
        self.named = {n: p for n, p in model.named_parameters() if "visual" not in n}
        self.parameters = list(self.named.values())
        self.gradients: list[dict[str, torch.Tensor]] = []

    def set_rate(self, rate: float) -> None:
        """Its rate is fixed."""

    def step(self) -> None:
        self.gradients.append({n: p.grad.clone() for n, p in self.named.items()})
        with torch.no_grad():
            for parameter in self.parameters:
                parameter -= RATE * parameter.grad
                parameter.grad = None


class Losses:
    """A guard that lets everything pass."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def check(self, step: int, loss: float, norm: float, entropy: float | None) -> None:
        self.seen.append(loss)


def moved(directory) -> Any:
    """The checkpoint's model, some way from the weights that are the reference."""
    from transformers import AutoModelForImageTextToText

    model = AutoModelForImageTextToText.from_pretrained(directory, dtype=torch.float32)
    generator = torch.manual_seed(3)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "visual" not in name:
                parameter += 0.02 * torch.randn(parameter.shape, generator=generator)
    return model


def of_trl(directory, tokenizer, output, settings, temperature):
    """Return (losses, gradients) of two steps by TRL."""
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    def rollout(prompts, trainer):
        ids = [c for group in COMPLETIONS for c in group]
        prompt_ids = [tokenizer(prompt)["input_ids"] for prompt in prompts]
        log_probs = [[0.0] * len(c) for c in ids]
        return {"prompt_ids": prompt_ids, "completion_ids": ids, "logprobs": log_probs}

    arguments = GRPOConfig(
        output_dir=str(output), use_cpu=True, bf16=False, report_to="none",
        per_device_train_batch_size=8, num_generations=4, max_completion_length=LONGEST,
        temperature=temperature, gradient_checkpointing=False, **{"beta": 0.0} | settings,
    )  # fmt: skip
    trainer = GRPOTrainer(
        model=moved(directory),
        reward_funcs=lambda **_: [r for group in REWARDS for r in group],
        args=arguments,
        train_dataset=Dataset.from_list([{"prompt": p} for p in PROMPTS]),
        processing_class=tokenizer,
        rollout_func=rollout,
    )
    trainer.current_gradient_accumulation_steps = 1
    model, descent, losses = trainer.model, Descent(trainer.model), []
    model.train()
    batch = trainer._generate_and_score_completions(
        [{"prompt": p} for p in PROMPTS for _ in range(4)]
    )
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
    mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1)
    with torch.no_grad():
        old, _, _ = trainer._get_per_token_logps_and_entropies(
            model, ids, mask, batch["completion_ids"].shape[1]
        )
    for more in ({}, {"old_per_token_logps": old}):
        loss = trainer._compute_loss(model, batch | more)
        loss.backward()
        losses.append(float(loss))
        descent.step()
    return losses, descent.gradients


def of_ours(directory, tokenizer, settings, temperature):
    """Return (losses, gradients, metrics) of one step of two epochs."""
    from transformers import AutoModelForImageTextToText

    def policy_of(model):
        return Policy(model, make_adapter(model.config), pad_id=0)

    nothing = {"after_ids": (), "runs": (), "tokens_ND": torch.zeros(0, 32),
               "positions_N3": torch.zeros(0, 3, dtype=torch.long)}  # fmt: skip
    groups = [
        Group(
            id=prompt,
            evidence=Evidence(before_ids=tuple(tokenizer(prompt)["input_ids"]), **nothing),
            record=SamplingRecord(temperature=temperature, suppressed_ids=()),
            completions=completions,
            truncated=tuple(c[-1] != END for c in completions),
            verdict=Verdict(
                scores=rewards, right=tuple(r >= 0.5 for r in rewards), bonus=(0.0,) * 4, a_full=0.5
            ),
        )
        for prompt, completions, rewards in zip(PROMPTS, COMPLETIONS, REWARDS, strict=True)
    ]
    config = CGrpoConfig(
        clip_norm=1e9,
        reward=RewardConfig(alpha=0.0),
        loss=LossConfig(epochs=2, **{"kl": 0.0} | settings),
        optimizer=OptimizerConfig(micro_tokens=20),  # a part for each question
    )
    config = dataclasses.replace(
        config, rollout=dataclasses.replace(config.rollout, max_tokens=LONGEST)
    )
    policy = policy_of(moved(directory))
    reference = policy_of(AutoModelForImageTextToText.from_pretrained(directory))
    descent, losses = Descent(policy.model), Losses()
    metrics = train_step(policy, descent, groups, config, step=0, guard=losses, reference=reference)
    return losses.seen, descent.gradients, metrics


@pytest.mark.parametrize("case", CASES)
def test_losses_and_gradients_equal_trl(case, checkpoint, tokenizer, tmp_path, monkeypatch):
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    ours, theirs, temperature = CASES[case]
    directory = checkpoint("qwen2_5_vl")
    losses, gradients = of_trl(directory, tokenizer, tmp_path, theirs, temperature)
    found, own, metrics = of_ours(directory, tokenizer, ours, temperature)
    assert found == pytest.approx(losses, abs=1e-5)
    for one, other in zip(own, gradients, strict=True):
        assert set(one) == set(other)
        for name, gradient in one.items():
            torch.testing.assert_close(gradient, other[name], rtol=1e-5, atol=1e-5)
    assert max(g.abs().max() for g in own[0].values()) > 1e-2
    assert metrics["clip_low"] + metrics["clip_high"] > 0
