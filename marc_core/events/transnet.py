"""TransNetV2 (Soucek and Lokoc 2020, arXiv 2008.04838) for inference, with its trained weights.

The network is written anew, because the package that carries the weights reseeds every random
generator of the process, switches deterministic algorithms on, and is several times slower. Only
its weights file is read; its code is never imported.

Shape letters: B windows, F frames given, G frames answered, H x W = 27 x 48 pixels, P = H * W,
C channels.

What differs from the reference code, none of it in exact arithmetic:
- a (1, 3, 3) convolution is a 2-D one over F images in channels-last memory, a (3, 1, 1) one a
  2-D (3, 1) one over (F, P): no copies between;
- batch normalisation is folded into the temporal convolution before it;
- only the head that cuts are read from is evaluated, and only for the frames asked for;
- the convolutions can be fed piece by piece, so that no frame is ever computed twice;
- in bfloat16, or 8 bits (`quantized`), only the convolutions and the widest linear layer are;
  histograms, similarities and the rest of the classifier stay float32.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional

from marc_core.events.quantized import dithered

FRAME_HEIGHT, FRAME_WIDTH = 27, 48
DILATIONS = (1, 2, 4, 8)
_REACH = max(DILATIONS)
_FILTERS = (16, 32, 64)
_LOOKUP = 50


class DilatedBlock(nn.Module):
    """3 x 3 spatial convolution, then four temporal ones (dilation 1, 2, 4, 8) side by side.

    It sees a video piece by piece. `tails` are the last 16 spatial outputs of each branch; at the
    start of a video they are 8 frames of zeros, which is the reference code's zero padding.
    `silence`: the number that stands for zero in each branch (8-bit codes have an offset).
    """

    def __init__(self, in_channels: int, filters: int) -> None:
        super().__init__()
        self.silence = [0] * len(DILATIONS)
        self.spatial = nn.ModuleList(
            nn.Conv2d(in_channels, 2 * filters, 3, padding=1, bias=False) for _ in DILATIONS
        )
        self.temporal = nn.ModuleList(
            nn.Conv2d(2 * filters, filters, (3, 1), dilation=(d, 1)) for d in DILATIONS
        )

    def forward(self, x_FHWC: Tensor, tails: list[Tensor], last: bool) -> Tensor:
        """Return the (G, H, W, 4 * filters) outputs that the new frames make possible.

        They lag the input by 8 frames: G = F - 8 at a video's start, F later, and F + 8 when
        `last` says that zeros follow. `tails` (empty at the start) is brought up to date.
        """
        images = x_FHWC.permute(0, 3, 1, 2)
        branches = []
        for i in range(len(DILATIONS)):
            y_FHWC = self.spatial[i](images).permute(0, 2, 3, 1)
            known = tails[i] if i < len(tails) else y_FHWC
            nothing = torch.full_like(known[:_REACH], self.silence[i])
            tail = tails[i] if i < len(tails) else nothing
            pieces = _joined(tail, y_FHWC, nothing if last else None)
            tails[i : i + 1] = [pieces[-1][-2 * _REACH :].clone()]
            branches.append([self._temporal(i, piece) for piece in pieces])
        return _assembled(branches)

    def _temporal(self, branch: int, y_FHWC: Tensor) -> Tensor:
        """(F, H, W, 2 * filters) -> (F - 16, H, W, filters): all branches drop 8 at either end."""
        spare, (H, W) = _REACH - DILATIONS[branch], y_FHWC.shape[1:3]
        y_CFP = y_FHWC[spare : len(y_FHWC) - spare].flatten(1, 2).permute(2, 0, 1)
        out: Tensor = self.temporal[branch](y_CFP[None]).permute(0, 2, 3, 1)
        return out.reshape(-1, H, W, out.shape[3])


def _joined(tail: Tensor, y_FHWC: Tensor, end: Tensor | None) -> list[Tensor]:
    """Return overlapping runs of frames whose temporal outputs, in turn, are those of
    tail + y (+ `end`, 8 frames, when the video ends), without copying the long middle.
    """
    after = [] if end is None else [end]
    if len(y_FHWC) <= 4 * _REACH:
        return [torch.cat([tail, y_FHWC, *after])]
    pieces = [torch.cat([tail, y_FHWC[: 2 * _REACH]]), y_FHWC]
    return [*pieces, torch.cat([y_FHWC[-2 * _REACH :], *after])] if after else pieces


def _assembled(branches: list[list[Tensor]]) -> Tensor:
    """Join pieces along frames and branches along channels in one copy."""
    _, H, W, C = branches[0][0].shape
    F = sum(len(piece) for piece in branches[0])
    out = branches[0][0].new_empty(F, H, W, C * len(branches))
    first = 0
    for same_frames in zip(*branches, strict=True):
        end = first + len(same_frames[0])
        torch.cat(same_frames, dim=-1, out=out[first:end])
        first = end
    return out


@dataclass
class StageState:
    """What a stage remembers between two pieces of a video: bounded, whatever its length."""

    first: list[Tensor] = field(default_factory=list)
    second: list[Tensor] = field(default_factory=list)
    shortcut: Tensor | None = None
    means: list[Tensor] = field(default_factory=list)


class Stage(nn.Module):
    """Two dilated blocks with a shortcut, then 2 x 2 average pooling.

    With `scales`, of its input's codes and its first block's, its convolutions are 8-bit ones that
    contain the ReLUs (`quantized`); what it is given and what it answers are floats all the same.
    """

    def __init__(self, in_channels: int, filters: int) -> None:
        super().__init__()
        self.first = DilatedBlock(in_channels, filters)
        self.second = DilatedBlock(4 * filters, filters)
        self.scales: tuple[float, float] | None = None

    def forward(self, x_FHWC: Tensor, state: StageState, last: bool) -> Tensor:
        """(F, H, W, C) -> (G, H // 2, W // 2, 4 * filters), lagging by 16 frames."""
        if self.scales is None:
            scale = 1.0
            first = self.first(x_FHWC, state.first, last).relu_()
            x = self.second(first, state.second, last).relu_()
        else:
            given, scale = self.scales
            first = self.first(dithered(x_FHWC, given), state.first, last)
            x = self.second(first, state.second, last)
        waiting = state.shortcut if state.shortcut is not None else first[:0]
        used = len(x) - len(waiting)
        x[: len(waiting)].add_(waiting, alpha=scale)
        x[len(waiting) :].add_(first[:used], alpha=scale)
        state.shortcut = first[used:].clone()
        return functional.avg_pool2d(x.permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1)


class TransNetV2(nn.Module):
    """Frames -> features (piece by piece) -> probability that a frame is a transition."""

    def __init__(self) -> None:
        super().__init__()
        inputs = (3, *(4 * f for f in _FILTERS[:-1]))
        self.stages = nn.ModuleList(Stage(c, f) for c, f in zip(inputs, _FILTERS, strict=True))
        self.similarity_projection = nn.Linear(4 * sum(_FILTERS), 128)
        self.similarity_fc = nn.Linear(2 * _LOOKUP + 1, 128)
        self.histogram_fc = nn.Linear(2 * _LOOKUP + 1, 128)
        self.lookup_fc = nn.Linear(256, 1024)
        self.pixel_fc = nn.Linear(4 * _FILTERS[-1] * 3 * 6, 1024, bias=False)
        self.classifier = nn.Linear(1024, 1)

    def new_state(self) -> list[StageState]:
        """Return the state of a video of which nothing has been seen."""
        return [StageState() for _ in self.stages]

    def features(
        self, frames_FHWC: Tensor, state: list[StageState], last: bool
    ) -> tuple[Tensor, Tensor]:
        """Return ((G, 128) float32 unit features, (G, 4608) pixel features) of the next G frames.

        frames_FHWC: (F, 27, 48, 3) uint8 RGB, the video's next frames, at least 50 at its start.
        The features lag by 48 frames until `last`.
        """
        x = frames_FHWC.to(self.pixel_fc.weight.dtype) / 255.0
        for stage, stage_state in zip(self.stages, state, strict=True):
            x = stage(x, stage_state, last)
            stage_state.means.append(x.float().mean(dim=(1, 2)))
        waiting = [torch.cat(s.means) for s in state]
        for s, means in zip(state, waiting, strict=True):
            s.means = [means[len(x) :].clone()]
        means_FC = torch.cat([means[: len(x)] for means in waiting], dim=-1)
        unit_FC = functional.normalize(self.similarity_projection(means_FC), dim=-1)
        return unit_FC, x.flatten(1)

    def classify(self, unit_BFC: Tensor, histograms_BFC: Tensor, pixels_BGC: Tensor) -> Tensor:
        """Return (B, G) float32 transition probabilities of the G middle frames of B windows.

        unit_BFC, histograms_BFC: (B, F, .) of all frames of a window; pixels_BGC: (B, G, 4608).
        """
        margin = (unit_BFC.shape[1] - pixels_BGC.shape[1]) // 2
        middle = slice(margin, margin + pixels_BGC.shape[1])
        histogram = self.histogram_fc(_neighbours(histograms_BFC)[:, middle]).relu()
        similarity = self.similarity_fc(_neighbours(unit_BFC)[:, middle]).relu()
        lookup = self.lookup_fc(torch.cat([histogram, similarity], dim=-1))
        hidden = (lookup + self.pixel_fc(pixels_BGC).float()).relu()
        return torch.sigmoid(self.classifier(hidden)).squeeze(-1)


def _neighbours(unit_BFC: Tensor) -> Tensor:
    """Return (B, F, 101): dot products of each frame with the 50 before and after it.

    Frames outside the window count as 0, as in the reference code.
    """
    products = functional.pad(unit_BFC @ unit_BFC.transpose(1, 2), (_LOOKUP, _LOOKUP))
    B, F, row = products.shape
    return products.as_strided((B, F, 2 * _LOOKUP + 1), (F * row, row + 1, 1))


def color_histograms(frames_FHWC: Tensor) -> Tensor:
    """Return (F, 512) float32 unit-length colour histograms of uint8 frames, 3 bits a channel."""
    F = len(frames_FHWC)
    high = (frames_FHWC >> 5).flatten(1, 2).long()
    bins = (high[..., 0] << 6) + (high[..., 1] << 3) + high[..., 2]
    bins += torch.arange(F, device=bins.device)[:, None] * 512
    counts = torch.bincount(bins.flatten(), minlength=F * 512).view(F, 512)
    return functional.normalize(counts.float(), dim=-1)
