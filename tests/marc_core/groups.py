"""For tests of training: groups of answers of a tiny student, and a step that can be checked."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import torch

from marc_core.models.answering import answer_all
from marc_core.models.engine import GenerationRequest
from marc_core.models.transformers_engine import TransformersEngine
from marc_core.question import Question, Sampling
from marc_core.rl.config import CGrpoConfig
from marc_core.rl.group import Group, make_group, target_of
from marc_core.rl.judging import judge
from marc_core.rl.samples import TrainSample

QUESTIONS = ("what is red ?", "is the A blue ?", "the right letter ?")
OPTIONS = ("the letter", "right option a", "a", "blue")


class Descent:
    """Plain gradient descent that keeps the gradients it was given."""

    def __init__(self, model: torch.nn.Module, rate: float = 0.01) -> None:
        self.named = {n: p for n, p in model.named_parameters() if "visual" not in n}
        self.parameters, self.rate = list(self.named.values()), rate
        self.gradients: list[dict[str, torch.Tensor]] = []

    def set_rate(self, rate: float) -> None:
        """Its rate is fixed."""

    def step(self) -> None:
        taken = {n: p.grad for n, p in self.named.items() if p.grad is not None}
        self.gradients.append({n: g.clone() for n, g in taken.items()})
        with torch.no_grad():
            for name, gradient in taken.items():
                self.named[name] -= self.rate * gradient
                self.named[name].grad = None


class Losses:
    """A guard that lets everything pass and keeps what it saw: (loss, norm, entropy)."""

    def __init__(self) -> None:
        self.seen: list[tuple[float, float, float | None]] = []

    def check(self, step: int, loss: float, norm: float, entropy: float | None) -> None:
        self.seen.append((loss, norm, entropy))


def settings(**values: Any) -> CGrpoConfig:
    """Return a configuration with these values of its parts, no limit to gradients, no
    warm-up, and no KL anchor unless it is asked for."""
    config = CGrpoConfig(clip_norm=1e9, steps=20)
    values = {"kl": 0.0} | values
    for name in ("loss", "reward", "optimizer", "rollout"):
        part = getattr(config, name)
        own = {f.name: values.pop(f.name) for f in fields(part) if f.name in values}
        config = replace(config, **{name: replace(part, **own)})
    assert not values, f"no such settings: {values}"
    return config


def draw(
    engine: TransformersEngine, make_evidence: Any, *, num: int = 3, seed: int = 0, n: int = 4,
    kinds: str = "closed free", temperature: float = 1.0, teacher: tuple[str, ...] = ("a", "blue"),
    version: int = 0,
) -> list[Group]:  # fmt: skip
    """Return groups of answers, of these kinds in turn: closed (decoded among OPTIONS, the right
    one is OPTIONS[i % 4]) and free (right where it holds "red")."""
    groups = []
    for i in range(num):
        closed = kinds.split()[i % len(kinds.split())] == "closed"
        choices = OPTIONS if closed else ()
        text = QUESTIONS[i % 3]
        evidence = make_evidence(engine.config, text, groups=1 + i % 2, seed=i, choices=choices)
        sample = TrainSample(
            id=str(i),
            question=Question(text=text, options=choices),
            problem_type="multiple choice" if closed else "free-form",
            answers=("ABCD"[i % 4],) if closed else ("red",),
        )
        sampling = Sampling(temperature=temperature, n=n, seed=seed + i, max_tokens=3 + i)
        done = answer_all(
            engine, [GenerationRequest(id=str(i), evidence=evidence, sampling=sampling)]
        )
        texts = [c.text for c in done]
        verdict = judge(sample, texts, CGrpoConfig().reward, teacher=teacher, choices=choices)
        assert verdict is not None
        target = target_of(verdict, done[0].sampling)
        made = make_group(str(i), evidence, done, verdict, target=target)
        groups.append(replace(made, version=version))
    return groups
