"""From small frames to shot boundaries: TransNetV2 over a stream, every frame exactly once.

The authors predict windows of 100 frames, 50 apart, and keep the 50 in the middle; the video is
continued by its first frame (25 times) and its last (25 times and up to a full window):

    windows    [0 ............ 100)        of the padded frames
    kept            [25 .. 75)             = frames 0 .. 49 of the video
                     [50 ............ 150)
                          [75 .. 125)      = frames 50 .. 99 ...

So every frame goes through the convolutions twice. Here the convolutions run once, over the
whole video piece by piece; the two look-up branches and the classifier see the same windows as
the authors'. What differs: beyond a window's border a convolution finds the real frames instead
of zeros, and bfloat16 rounds. Where that could matter, because a score lies within
`shot_recheck_margin` of the threshold, the window is predicted again exactly as the authors do,
in float32.

Windows in which nothing changes (`quiet`) are passed by: their scores are 0. The frames between are
convolved in runs, each with 50 frames more on either side than its windows have, which is all that
the convolutions see; so the other windows have the scores that they would have anyway.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from marc_core.config import EventConfig
from marc_core.events.quiet import Change, change_in, is_quiet
from marc_core.events.transnet import (
    FRAME_HEIGHT,
    FRAME_WIDTH,
    StageState,
    TransNetV2,
    color_histograms,
)
from marc_core.events.weights import load_transnet

WINDOW = 100
STEP = 50
PADDING = (WINDOW - STEP) // 2
MIN_SHOT_S = 0.5
"""Less than this between two transitions is part of one transition (our choice)."""
_DARK_MEAN, _DARK_MAX = 16, 48


class ShotDetector:
    """Transition probabilities of one video after another; memory does not grow with length.

    Only the scores (4 bytes a frame) and about `shot_chunk_frames` + 300 frames are held.
    """

    def __init__(self, config: EventConfig, device: str = "cpu") -> None:
        """Load the weights, which all videos share. Raises ModelLoadError without them."""
        self.config = config
        self._margin, self._threshold = config.shot_recheck_margin, config.shot_threshold
        self._chunk = -(-config.shot_chunk_frames // STEP) * STEP
        self._device = device
        self._fast = load_transnet(config, device)
        self._exact: TransNetV2 | None = None
        if self._margin > 0:
            self._exact = load_transnet(replace(config, shot_precision="fp32"), device)
        self.num_windows = 0
        self.num_quiet = 0
        self.num_rechecked = 0
        self.reset()

    def reset(self) -> None:
        """Forget everything about the last video."""
        self._num_frames = 0
        self._waiting: list[Tensor] = []
        self._dark: list[Tensor] = []
        self._change: Change | None = None
        self._active: list[bool] = []
        self._blocks: deque[Tensor] = deque()
        self._num_decided = 0
        self._scores: list[Tensor] = []
        self._num_scored = 0
        self._run: list[Tensor] = []
        self._start_run()

    def push(self, frames_FHWC: NDArray[np.uint8]) -> None:
        """Take the next (F, 27, 48, 3) uint8 RGB frames of the video; F may be anything."""
        assert frames_FHWC.shape[1:] == (FRAME_HEIGHT, FRAME_WIDTH, 3), frames_FHWC.shape
        assert frames_FHWC.dtype == np.uint8, frames_FHWC.dtype
        if len(frames_FHWC) == 0:
            return
        frames = torch.from_numpy(np.ascontiguousarray(frames_FHWC))
        if self._num_frames == 0:
            self._waiting.append(frames[:1].expand(PADDING, -1, -1, -1))
        self._num_frames += len(frames)
        self._waiting.append(frames.clone())
        self._last_frame = frames[-1:].clone()
        self._dark.append(is_dark(frames))
        self._take_blocks()

    def finish(self) -> NDArray[np.float32]:
        """Return the (F,) probability of every frame pushed, and be ready for the next video."""
        scores, _ = self.finish_with_dark()
        return scores

    def finish_with_dark(self) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Like `finish`, and (F,) whether the frame is black, for `transitions`."""
        F = self._num_frames
        if F == 0:
            return np.zeros(0, np.float32), np.zeros(0, np.bool_)
        self._waiting.append(self._last_frame.expand(PADDING + -F % STEP, -1, -1, -1))
        self._take_blocks()
        while self._blocks:
            self._decide()
        self._put(len(self._active), torch.zeros(0, STEP))
        scores = torch.cat(self._scores).flatten()[:F].numpy()
        dark = torch.cat(self._dark).numpy()
        self.reset()
        return scores, dark

    def _take_blocks(self) -> None:
        """Take what waits in blocks of 50 frames; decide on a block when two more have come.

        Each completes a window, the one of this block and the one before it.
        """
        if sum(map(len, self._waiting)) < STEP:
            return
        blocks = list(torch.split(torch.cat(self._waiting), STEP))
        self._waiting = [] if len(blocks[-1]) == STEP else [blocks.pop().clone()]
        for block in blocks:
            before, self._change = self._change, change_in(block, self._change, self.config)
            if before is not None:
                quiet = is_quiet((before, self._change), self.config)
                self._active.append(not quiet)
                self.num_quiet += quiet
            self._blocks.append(block.clone())
            if len(self._blocks) > 2:
                self._decide()

    def _decide(self) -> None:
        """Give the oldest block to the network, or pass by and let its run of blocks end.

        A block matters to the windows that it is part of, and through the convolutions, which see
        48 frames to either side, to those before and behind them.
        """
        block, number = self._blocks.popleft(), self._num_decided
        self._num_decided += 1
        if any(self._active[max(number - 2, 0) : number + 2]):
            self._run.append(block)
            last = not self._blocks
            if last or sum(map(len, self._run)) >= self._chunk:
                self._predict(torch.cat(self._run).to(self._device), last=last)
                self._run = []
            return
        if self._run:
            self._predict(torch.cat(self._run).to(self._device), last=False)
        self._start_run()

    def _start_run(self) -> None:
        """Let the network begin anew with the next block: what came before is out of its sight."""
        self._run = []
        self._state: list[StageState] = self._fast.new_state()
        self._buffer = _Buffer(self._fast, self._num_decided)

    @torch.inference_mode()
    def _predict(self, frames: Tensor, *, last: bool) -> None:
        """Score every window that the next padded frames of the run complete."""
        buffer = self._buffer
        buffer.add(frames, *self._fast.features(frames, self._state, last))
        n = buffer.num_windows()
        scores_BG = torch.zeros(n, STEP, device=self._device)
        active = [i for i in range(n) if self._active[buffer.first + i]]
        if active:
            scores_BG[active] = self._fast.classify(*buffer.windows(active))
        if self._exact is not None:
            near_B = ((scores_BG - self._threshold).abs() <= self._margin).any(dim=1)
            for i in active:
                if near_B[i]:
                    window = buffer.frames[i * STEP : i * STEP + WINDOW]
                    scores_BG[i] = window_scores(self._exact, window)
                    self.num_rechecked += 1
        self.num_windows += len(active)
        self._put(buffer.first, scores_BG.cpu())
        buffer.drop(n)

    def _put(self, first: int, scores_BG: Tensor) -> None:
        """Add the scores of the windows from `first` on; those passed by before it have none."""
        self._scores += [torch.zeros(first - self._num_scored, STEP), scores_BG]
        self._num_scored = first + len(scores_BG)


class _Buffer:
    """Padded frames and their features from the first window on that is not yet scored.

    first: number of that window.
    """

    def __init__(self, network: TransNetV2, first: int) -> None:
        like = network.pixel_fc.weight
        device = like.device
        self.first = first
        self.frames = torch.empty(0, FRAME_HEIGHT, FRAME_WIDTH, 3, dtype=torch.uint8, device=device)
        self.histograms = torch.empty(0, 512, device=device)
        self.unit = torch.empty(0, network.similarity_projection.out_features, device=device)
        self.pixels = torch.empty(0, like.shape[1], dtype=like.dtype, device=device)

    def add(self, frames: Tensor, unit_GC: Tensor, pixels_GC: Tensor) -> None:
        """Append new frames, and features, which lag behind them."""
        self.frames = torch.cat([self.frames, frames])
        self.histograms = torch.cat([self.histograms, color_histograms(frames)])
        self.unit = torch.cat([self.unit, unit_GC])
        self.pixels = torch.cat([self.pixels, pixels_GC])

    def num_windows(self) -> int:
        """Return how many windows have all their features."""
        return max(0, len(self.unit) // STEP - 1)

    def windows(self, which: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
        """Return these windows, counted from the buffer's first, as `TransNetV2.classify` takes
        them."""
        starts = [i * STEP for i in which]
        unit = torch.stack([self.unit[s : s + WINDOW] for s in starts])
        histograms = torch.stack([self.histograms[s : s + WINDOW] for s in starts])
        pixels = torch.stack([self.pixels[s + PADDING : s + PADDING + STEP] for s in starts])
        return unit, histograms, pixels

    def drop(self, n: int) -> None:
        """Forget what only the first n windows needed."""
        self.first += n
        for name in ("frames", "histograms", "unit", "pixels"):
            setattr(self, name, getattr(self, name)[n * STEP :].clone())


def window_scores(network: TransNetV2, frames_FHWC: Tensor) -> Tensor:
    """Return (50,) scores of the middle frames of one window of 100, as the authors compute them.

    With a float32 network this is the reference; it shares every line with the fast pass.
    """
    unit, pixels = network.features(frames_FHWC, network.new_state(), last=True)
    histograms = color_histograms(frames_FHWC)
    middle = pixels[PADDING : PADDING + STEP]
    return network.classify(unit[None], histograms[None], middle[None])[0]


def is_dark(frames_FHWC: Tensor) -> Tensor:
    """Return (F,) whether each frame is black (limited-range black included)."""
    pixels = frames_FHWC.flatten(1)
    return (pixels.float().mean(dim=1) < _DARK_MEAN) & (pixels.amax(dim=1) < _DARK_MAX)


@dataclass(frozen=True, kw_only=True, slots=True)
class Transition:
    """Frames [first, last] between two shots; the later shot begins at `boundary`."""

    first: int
    last: int
    peak: float

    @property
    def boundary(self) -> int:
        """First frame of the later shot: the middle of the transition, to within a frame."""
        return (self.first + self.last) // 2 + 1


def transitions(
    scores_F: NDArray[np.float32],
    threshold: float,
    *,
    times_s: NDArray[np.float64] | None = None,
    dark_F: NDArray[np.bool_] | None = None,
) -> list[Transition]:
    """Return the runs of frames whose score is above `threshold`, in order.

    With `times_s`, runs become one where no shot lies between them: less than 0.5 s that is not
    black (`dark_F`). With both, a fade to black and back is one transition from half the
    threshold on, because its two halves bear each other out (our choice).
    """
    runs = _runs(scores_F, threshold)
    if times_s is None:
        return runs
    shown_s = np.diff(times_s, append=times_s[-1:])
    if dark_F is not None:
        shown_s = np.where(dark_F, 0.0, shown_s)
        runs = sorted(runs + _fades(scores_F, threshold, shown_s, dark_F), key=lambda t: t.first)
    before_s = np.concatenate([[0.0], np.cumsum(shown_s)])
    merged: list[Transition] = []
    for run in runs:
        if merged and before_s[run.first] - before_s[merged[-1].last + 1] < MIN_SHOT_S:
            run = _union(merged.pop(), run)
        merged.append(run)
    return merged


def _runs(scores_F: NDArray[np.float32], threshold: float) -> list[Transition]:
    above = np.concatenate([[False], scores_F > threshold, [False]])
    edges = np.flatnonzero(above[1:] != above[:-1]).reshape(-1, 2)
    return [
        Transition(first=first, last=end - 1, peak=float(scores_F[first:end].max()))
        for first, end in edges.tolist()
    ]


def _fades(
    scores_F: NDArray[np.float32],
    threshold: float,
    shown_s: NDArray[np.float64],
    dark_F: NDArray[np.bool_],
) -> list[Transition]:
    """Return pairs of weak runs with black between them and no more than 0.5 s of other frames."""
    found = []
    for a, b in pairwise(_runs(scores_F, threshold / 2)):
        between = slice(a.last + 1, b.first)
        if dark_F[between].any() and shown_s[between].sum() < MIN_SHOT_S:
            found.append(_union(a, b))
    return found


def _union(a: Transition, b: Transition) -> Transition:
    return Transition(first=a.first, last=max(a.last, b.last), peak=max(a.peak, b.peak))
