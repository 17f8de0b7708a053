import json

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from marc_core.config import EventConfig
from marc_core.errors import ConfigError
from marc_core.events import weights
from marc_core.events.quantized import (
    RANGES_FILE,
    Affine,
    QuantizedConv2d,
    dithered,
    is_fast,
    read_ranges,
    round_keeping_sums,
)

fast = pytest.mark.skipif(not is_fast(), reason="needs a CPU with VNNI")


def test_codes_cover_a_range_and_hold_zero_exactly():
    code = Affine.of(-1.0, 3.0)
    assert code.scale == pytest.approx(4 / 255)
    assert code.zero == 64
    assert (0 - code.zero) * code.scale == pytest.approx(-1.0, abs=code.scale)
    assert (255 - code.zero) * code.scale == pytest.approx(3.0, abs=code.scale)


@pytest.mark.parametrize("value", [0.0, 0.1, 7.3, 100.5, 254.9])
def test_the_mean_of_a_flat_picture_survives_dithering(value):
    codes = dithered(torch.full((2, 13, 24, 64), value * 0.05), 0.05)
    assert codes.dtype == torch.uint8
    assert codes.float().mean().item() == pytest.approx(value, abs=0.01)
    if value % 1:
        assert set(codes.unique().tolist()) == {int(value), int(value) + 1}
    for block in codes.float().unfold(1, 6, 6).unfold(2, 6, 6).mean(dim=(-1, -2)).flatten():
        assert abs(block.item() - value) < 0.2


def test_dithering_is_the_relu_too_and_saturates():
    x = torch.tensor([-3.0, -0.4, 300.0]).expand(1, 4, 4, 3)
    assert dithered(x, 1.0)[..., :2].eq(0).all()
    assert dithered(x, 1.0)[..., 2].eq(255).all()


def test_kernels_keep_their_sums():
    weight = torch.rand(16, 8, 3, 3, generator=torch.Generator().manual_seed(0)) * 200 - 100
    codes = round_keeping_sums(weight)
    assert codes.dtype == torch.int8
    assert (codes - weight).abs().max() <= 1.0
    sums, true = codes.float().sum(dim=(2, 3)), weight.sum(dim=(2, 3))
    assert (sums - true).abs().max() <= 0.5 + 1e-3
    assert (weight.round().sum(dim=(2, 3)) - true).abs().max() > 0.5, "plain rounding does not"


@fast
@pytest.mark.parametrize(("kernel", "dilation", "zero"), [((3, 3), 1, 0), ((3, 1), (4, 1), 93)])
def test_a_convolution_of_codes_is_the_integer_sum(kernel, dilation, zero):
    """Against float64 arithmetic on the same integers; only the last rounding may differ."""
    generator = torch.Generator().manual_seed(1)
    padding = (1, 1) if kernel == (3, 3) else (0, 0)
    conv = nn.Conv2d(8, 16, kernel, padding=padding, dilation=dilation)
    given, answered = Affine(0.03, zero), Affine(0.05, 17)
    x = torch.randint(0, 256, (3, 8, 20, 12), generator=generator, dtype=torch.uint8)
    x = x.contiguous(memory_format=torch.channels_last)
    scale_O = conv.weight.detach().abs().amax(dim=(1, 2, 3)) / 127
    codes = round_keeping_sums(conv.weight.detach() / scale_O[:, None, None, None])
    weight = codes.double() * scale_O.double()[:, None, None, None]
    values = (x.double() - zero) * 0.03
    with torch.inference_mode():
        exact = functional.conv2d(
            values, weight, conv.bias.double(), padding=padding, dilation=dilation
        )
        half = QuantizedConv2d(conv, given, None, relu=False)(x)
        coded = QuantizedConv2d(conv, given, answered, relu=True)(x)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.double(), exact, rtol=2**-8, atol=1e-3)
    expected = (exact.relu() / 0.05 + 17).clamp(0, 255)
    assert coded.dtype == torch.uint8
    assert coded.is_contiguous(memory_format=torch.channels_last)
    assert (coded.double() - expected).abs().max() <= 0.5 + 1e-2


def test_committed_ranges_are_those_of_the_network():
    names = set(read_ranges())
    with torch.device("meta"):
        modules = {name for name, _ in weights.TransNetV2().named_modules()}
    assert names <= modules
    assert len(names) == 2 * (2 + 2 * 4)
    assert all(low <= 0 < high for low, high in read_ranges().values())
    assert json.loads(RANGES_FILE.read_text())["measured_on"]["frames"] > 500


@fast
def test_features_are_close_to_float32_also_at_both_ends_of_a_video():
    frames = torch.from_numpy(
        np.random.default_rng(0).integers(0, 256, (60, 27, 48, 3), dtype=np.uint8)
    )
    frames = functional.avg_pool2d(frames.permute(0, 3, 1, 2).float(), 5, 1, 2)
    frames = frames.permute(0, 2, 3, 1).to(torch.uint8).contiguous()
    answers = []
    with torch.inference_mode():
        for precision in ("fp32", "int8"):
            network = weights.load_transnet(EventConfig(shot_precision=precision))
            unit, _ = network.features(frames, network.new_state(), last=True)
            answers.append(unit)
    assert (answers[0] * answers[1]).sum(dim=-1).min() > 0.99


def test_eight_bits_without_the_instructions_are_refused(monkeypatch):
    monkeypatch.setattr(weights, "is_fast", lambda: False)
    auto = EventConfig(shot_precision="auto")
    monkeypatch.setattr(weights, "has_bf16", lambda: True)
    assert weights.shot_precision(auto) == "bf16"
    monkeypatch.setattr(weights, "has_bf16", lambda: False)
    assert weights.shot_precision(auto) == "fp32"
    with pytest.raises(ConfigError, match="shot_precision=int8 needs a CPU with the VNNI"):
        weights.shot_precision(EventConfig(shot_precision="int8"))
    monkeypatch.setattr(weights, "is_fast", lambda: True)
    assert weights.shot_precision(auto) == "int8"
    assert weights.shot_precision(auto, "cuda") == "bf16"
    assert weights.shot_precision(EventConfig(shot_precision="fp32"), "cuda") == "fp32"
