"""TransNetV2's convolutions in 8 bits, for CPUs with the VNNI instructions (our choice).

    stage 0:    frames -> first block (bfloat16) -> second block (bfloat16) -> + shortcut, pool
    stage 1, 2: pooled -> codes -> first block (uint8) -> second block (uint8) -> + shortcut, pool

On such a processor an 8-bit multiplication costs half of a bfloat16 one, and a tensor half of the
memory. Weights have a scale per output channel. Activations have one range per tensor, measured
once over real clips and committed (`int8_ranges.json`, from `python -m benchmarks.int8_ranges`), so
a frame's score depends neither on its chunk nor on its video; what lies outside saturates.

Two things make it safe, both measured (docs/events.md). The first stage stays bfloat16: it is a
quarter of the work, and its weights and activations matter most. And what enters a stage is
**dithered**: in a fade a whole frame has nearly one value, plain rounding errs everywhere in the
same direction, and the network, which averages over the frame, takes that for a change.

The kernels are oneDNN's, as PyTorch's own quantisation for x86 calls them (`torch.ops.onednn`).
Shape letters as in `transnet`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn

Ranges = dict[str, tuple[float, float]]
"""Module of a float32 TransNetV2 -> least and greatest value of its output (after its ReLU)."""
RANGES_FILE = Path(__file__).with_name("int8_ranges.json")


def is_fast() -> bool:
    """Return whether this processor has the instructions (VNNI) that the kernels need.

    Without them 8-bit products are summed in 16 bits, which is slower and can overflow.
    """
    features = torch.cpu.get_capabilities()
    return any(features.get(name, False) for name in ("avx512_vnni", "avx_vnni"))


@dataclass(frozen=True, slots=True)
class Affine:
    """How values become uint8 codes: value = (code - zero) * scale."""

    scale: float
    zero: int

    @classmethod
    def of(cls, low: float, high: float) -> Affine:
        """Return the finest code of [low, high] in which 0 is exact. Needs low <= 0 < high."""
        scale = (high - low) / 255
        return cls(scale, round(-low / scale))


def dithered(x_FHWC: Tensor, scale: float) -> Tensor:
    """Return uint8 codes of ReLU(x) / scale whose mean over a flat region is that of x.

    A fixed pattern in (0, 1) is added before rounding down, another for every pixel and channel,
    so that rounding errors do not add up over a frame.
    """
    codes = torch.add(_pattern(*x_FHWC.shape[1:]), x_FHWC, alpha=1 / scale)
    return codes.clamp_(0, 255).to(torch.uint8)


@cache
def _pattern(H: int, W: int, C: int) -> Tensor:
    """Return (H, W, C) float32 numbers in [0, 1), evenly spread over every small region.

    The additive recurrence R2 (M. Roberts, 2018) over pixels, golden ratio over channels.
    """
    steps = (0.7548776662466927, 0.5698402909980532, 0.6180339887498949)
    axes = [torch.arange(n, dtype=torch.float64) * a for n, a in zip((H, W, C), steps, strict=True)]
    pattern = axes[0][:, None, None] + axes[1][:, None] + axes[2]
    return pattern.remainder(1).float()


def round_keeping_sums(x_OIKL: Tensor) -> Tensor:
    """Return `x` as int8, each K x L kernel's sum within a half of the true one.

    The sum is what a kernel answers to a flat picture. Plain rounding leaves it off by up to half a
    step for every weight; here the weights nearest to the other side are rounded there instead.
    """
    x_N9 = x_OIKL.flatten(2)
    rounded = x_N9.round()
    missing = (x_N9 - rounded).sum(dim=-1, keepdim=True).round()
    rank = (x_N9 - rounded).argsort(dim=-1, descending=True).argsort(dim=-1)
    last = x_N9.shape[-1] - 1
    up = (rank < missing).to(x_N9.dtype)
    down = (last - rank < -missing).to(x_N9.dtype)
    return (rounded + up - down).clamp(-127, 127).view_as(x_OIKL).to(torch.int8)


class QuantizedConv2d(nn.Module):
    """A convolution of uint8 codes in channels-last memory, for inference."""

    def __init__(self, conv: nn.Conv2d, given: Affine, answered: Affine | None, *, relu: bool):
        """Quantise `conv`, whose input has the codes `given`.

        The answer has the codes `answered`, or is bfloat16 for None; with `relu`, after a ReLU.
        """
        super().__init__()
        self._given, self._answered = given, answered
        self._attr = "relu" if relu else "none"
        self._geometry = [list(x) for x in (conv.stride, conv.padding, conv.dilation)]
        weight = conv.weight.detach().float()
        self._scale_O = weight.abs().amax(dim=(1, 2, 3)).clamp(min=1e-12) / 127
        self._zeros_O = torch.zeros(len(weight), dtype=torch.int64)
        self._bias = None if conv.bias is None else conv.bias.detach().float()
        codes = round_keeping_sums(weight / self._scale_O[:, None, None, None])
        self._packed = torch.ops.onednn.qconv_prepack(
            codes, self._scale_O, given.scale, given.zero, *self._geometry, 1, None
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) uint8 -> (N, O, H', W') uint8 or bfloat16."""
        dtype, out = torch.uint8, self._answered
        if out is None:
            dtype, out = torch.bfloat16, Affine(1.0, 0)
        answer: Tensor = torch.ops.onednn.qconv2d_pointwise(
            x, self._given.scale, self._given.zero, self._packed, self._scale_O, self._zeros_O,
            self._bias, *self._geometry, 1, out.scale, out.zero, dtype, self._attr, [], "",
        )  # fmt: skip
        return answer


def read_ranges() -> Ranges:
    """Return the committed ranges."""
    stored = json.loads(RANGES_FILE.read_text())["ranges"]
    return {name: (low, high) for name, (low, high) in stored.items()}
