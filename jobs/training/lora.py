"""LoRA (peft): two thin matrices beside each frozen one; only they are trained, sent and saved.

The start, which the KL anchor needs, is the same model with its adapter turned off. The exported
student has the adapter merged: W + (alpha / rank) B A.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save_file

from marc_core.errors import ConfigError

if TYPE_CHECKING:
    from jobs.training.cgrpo_config import LearnerConfig
    from marc_core.models.policy import Drawn, Policy, Scored

ADAPTER = "marc"
_TARGETS = (
    r".*language_model\.layers\.\d+\.(self_attn|mlp)\."
    r"(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"
)
"""Every matrix of every layer of the language model."""


def check_peft() -> None:
    """Raise ConfigError where peft is not installed."""
    if importlib.util.find_spec("peft") is None:
        raise ConfigError(
            "learner.lora_rank needs the package peft, which is not installed: pip install "
            "'marc-video[lora]'. Or train all weights with lora_rank=0."
        )


def add_adapter(model: Any, config: LearnerConfig) -> None:
    """Put fresh adapters into a model and freeze all else; they change nothing at first.

    They are float32 whatever the model is: in bfloat16 a step of 1e-6 would be rounded away.
    """
    model.add_adapter(_settings(config), adapter_name=ADAPTER)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()


def adapter_directory(
    tensors: Mapping[str, torch.Tensor], config: LearnerConfig, folder: Path
) -> Path:
    """Write an adapter as `StudentEngine.load_weights` takes it; return its directory.

    tensors: by the names that they have in the model that is trained.
    """
    plain = {
        f"base_model.model.{name.replace(f'.{ADAPTER}.', '.')}": tensor.contiguous()
        for name, tensor in tensors.items()
    }
    save_file(plain, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    _settings(config).save_pretrained(str(folder))
    return folder


def merge(model: Any, tensors: Mapping[str, torch.Tensor], config: LearnerConfig) -> None:
    """Add an adapter to the weights of a plain model."""
    own = dict(model.named_parameters())
    scale = config.lora_alpha / config.lora_rank
    with torch.no_grad():
        for name, a in tensors.items():
            base, _, end = name.partition(".lora_A.")
            if end:
                b = tensors[name.replace(".lora_A.", ".lora_B.")]
                weight = own[f"{base}.weight"]  # rounded once, where it is stored in bfloat16
                weight.copy_(weight.float() + scale * (b.float() @ a.float()))


class WithoutAdapter:
    """The policy as it was before training: a `Scorer` for the KL anchor."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy

    def __call__(self, drawn: Sequence[Drawn]) -> Scored:
        with _turned_off(self.policy.model):
            found: Scored = self.policy(drawn)
        return found


@contextmanager
def _turned_off(model: Any) -> Iterator[None]:
    model.disable_adapters()
    try:
        yield
    finally:
        model.enable_adapters()


def _settings(config: LearnerConfig) -> Any:
    from peft import LoraConfig

    return LoraConfig(
        r=config.lora_rank, lora_alpha=config.lora_alpha, target_modules=_TARGETS, lora_dropout=0.0
    )
