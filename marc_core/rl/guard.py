"""Stops training that learns nothing any more, before it overwrites what was good.

    not finite   loss or gradient is NaN or infinite: at once, before the weights change
    exploding    loss or gradient far above their median of the last steps, several steps in a row
    collapsed    the answers' entropy near 0, many steps in a row: sampling shows one answer only

All limits are our choice (`GuardConfig`).
"""

from __future__ import annotations

import math
from collections import deque
from statistics import median

from marc_core.errors import TrainingError
from marc_core.rl.config import GuardConfig

WINDOW = 100
"""Steps whose median is taken."""
LEAST = 20
"""Steps that must be known before anything counts as exploding."""
LEAST_LOSS = 1.0
"""A loss below this size does not explode, whatever the median: on-policy losses lie around 0."""


class Guard:
    """Watches one run. checkpoint: where the last good checkpoint lies; kept up to date by whoever
    saves, and named in errors."""

    def __init__(self, config: GuardConfig, *, checkpoint: str = "") -> None:
        self.config, self.checkpoint = config, checkpoint
        self._losses: deque[float] = deque(maxlen=WINDOW)
        self._norms: deque[float] = deque(maxlen=WINDOW)
        self._exploding = self._collapsed = 0

    def check(self, step: int, loss: float, norm: float, entropy: float | None) -> None:
        """Raise TrainingError where step `step` must not be taken; called before the weights
        change.

        norm: of the gradient before clipping. entropy: of the sampled answers in nats a token,
        None where nothing was sampled.
        """
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise self._error(
                step,
                f"The loss or its gradient is not finite: loss {loss}, gradient norm {norm}. Start "
                "from that checkpoint with a lower optimizer.learning_rate or loss.clip_high",
            )
        self._check_size(step, loss, norm)
        self._check_entropy(step, entropy)

    def _check_size(self, step: int, loss: float, norm: float) -> None:
        large = _far_above(norm, self._norms, self.config.gradient_factor, 0.0)
        large |= _far_above(abs(loss), self._losses, self.config.loss_factor, LEAST_LOSS)
        self._exploding = self._exploding + 1 if large else 0
        if self._exploding > self.config.exploding_steps:
            raise self._error(
                step,
                f"The loss explodes: loss {loss:.3g}, gradient norm {norm:.3g}, their medians "
                f"{median(self._losses):.3g} and {median(self._norms):.3g}. Start from that "
                "checkpoint with a lower optimizer.learning_rate or a higher loss.kl",
            )
        if not large:
            self._norms.append(norm)
            self._losses.append(abs(loss))

    def _check_entropy(self, step: int, entropy: float | None) -> None:
        if entropy is None:
            return
        self._collapsed = self._collapsed + 1 if entropy < self.config.least_entropy else 0
        if self._collapsed > self.config.collapsed_steps:
            raise self._error(
                step,
                f"The student's answers have collapsed: {entropy:.2g} nats a token for "
                f"{self._collapsed} steps, so that sampling shows nothing new. Start from that "
                "checkpoint with a higher loss.kl or rollout.temperature, or end training there",
            )

    def _error(self, step: int, what: str) -> TrainingError:
        where = self.checkpoint or "none: start again"
        return TrainingError(
            f"Training stopped at step {step}. {what}. Last good checkpoint: {where}."
        )


def _far_above(value: float, before: deque[float], factor: float, least: float) -> bool:
    return len(before) >= LEAST and value > max(least, factor * median(before))
