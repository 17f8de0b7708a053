"""What differs between the Qwen-VL families: the visual part of a prompt and of a model call.

Qwen2-VL     one block of video tokens, temporal index = group index
Qwen2.5-VL   one block, temporal index = seconds x tokens_per_second
Qwen3-VL     one block per group, each after its time as text; deepstack features

Compressed features enter stock transformers as `mm_encoder_outputs`. `generate()` changes that
object in place, so every call builds a fresh one.

Letters: K groups, P tokens of a group, D channels, L deepstack layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any, Literal

import numpy as np
import torch
from transformers.modeling_outputs import BaseModelOutputWithPooling

from marc_core.compress import CompressedVideo, CutTokens
from marc_core.errors import ModelLoadError
from marc_core.models.positions import VisualBlock, ticks
from marc_core.models.prompt import VIDEO_MARK

_HALF_UP = 0.5
"""Added before rounding down: halves go up, so that equal distances stay equal."""
_START, _PAD, _END = "<|vision_start|>", "<|video_pad|>", "<|vision_end|>"


class Adapter:
    """The Qwen2-VL way, and the base of the others."""

    model_type = "qwen2_vl"

    def __init__(
        self, model_config: Any, *, temporal_positions: Literal["time", "grid"] = "time"
    ) -> None:
        self.model_config = model_config
        self.temporal_positions = temporal_positions

    def expand(self, text: str, video: CompressedVideo) -> str:
        """Return the prompt with its video mark spelled out to one token per visual token."""
        return text.replace(VIDEO_MARK, _START + _PAD * video.num_tokens + _END)

    def blocks(self, video: CompressedVideo) -> list[VisualBlock]:
        """Return the blocks of video tokens in the order in which `expand` writes them."""
        return [VisualBlock(self.temporal_index(video), video.grid_hw)]

    def temporal_index(self, video: CompressedVideo) -> tuple[int, ...]:
        """Return the temporal index of each group, from 0."""
        return tuple(range(len(video.groups_KPD)))

    def expand_tokens(self, text: str, cut: CutTokens) -> str:
        """Return the prompt with its video mark spelled out to one token per token of the cut."""
        return text.replace(VIDEO_MARK, _START + _PAD * cut.num_tokens + _END)

    def token_positions(self, cut: CutTokens) -> torch.Tensor:
        """Return (N, 3) int64 temporal, row and column index of each token of a cut.

        Times count from the first frame of the timeline, as those of whole videos do. With
        `temporal_positions` "grid" the tokens are a video of N groups of one token.
        """
        if self.temporal_positions == "grid":
            counted = torch.zeros(cut.num_tokens, 3, dtype=torch.long)
            counted[:, 0] = torch.arange(cut.num_tokens)
            return counted
        half_s = 0.5 * (self._temporal_patch - 1) * cut.frame_interval_s
        ticks_N = (cut.seconds_N - half_s).clip(min=0.0) * self._ticks_per_second(cut)
        indices = np.column_stack([ticks_N, cut.places_N2])
        return torch.from_numpy(np.floor(indices + _HALF_UP)).long()

    @property
    def _temporal_patch(self) -> int:
        return int(self.model_config.vision_config.temporal_patch_size)

    def _ticks_per_second(self, cut: CutTokens) -> float:
        """Groups are counted: one for each pair of frames."""
        return 1.0 / (self._temporal_patch * cut.frame_interval_s)

    @property
    def num_deepstack(self) -> int:
        """Deepstack layers that the language model reads."""
        return 0

    def encoder_outputs(
        self, tokens: Sequence[torch.Tensor], deepstack: Sequence[torch.Tensor | None]
    ) -> Any:
        """Return a fresh `mm_encoder_outputs["video"]` for a batch.

        tokens: (N, D) of each video; deepstack: (L, N, D) or None.
        """
        flat: Any = list(tokens)  # one entry a video, as `get_video_features` returns them
        return BaseModelOutputWithPooling(pooler_output=flat)

    def tower_class(self) -> Any:
        """Return the library's class of the family's vision tower."""
        from transformers.models.qwen2_vl import modeling_qwen2_vl

        return modeling_qwen2_vl.Qwen2VisionTransformerPretrainedModel

    def deepstack(self, output: Any) -> list[torch.Tensor]:
        """Return the tower's extra features (N, D) per layer; none here."""
        return []


class Qwen25Adapter(Adapter):
    """Temporal index in absolute time (`temporal_positions` "time") or grid x seconds ("grid")."""

    model_type = "qwen2_5_vl"

    def temporal_index(self, video: CompressedVideo) -> tuple[int, ...]:
        interval_s = video.group_interval_s
        times_K = video.times_K.cpu()
        if self.temporal_positions == "grid":
            times_K = torch.arange(len(times_K), dtype=torch.float64) * interval_s
        return ticks(times_K, self._tokens_per_second, interval_s)

    @property
    def _tokens_per_second(self) -> float:
        return float(self.model_config.vision_config.tokens_per_second)

    def _ticks_per_second(self, cut: CutTokens) -> float:
        return self._tokens_per_second

    def tower_class(self) -> Any:
        from transformers.models.qwen2_5_vl import modeling_qwen2_5_vl

        return modeling_qwen2_5_vl.Qwen2_5_VisionTransformerPretrainedModel


class Qwen3Adapter(Adapter):
    """Time as text before each group's own block; deepstack features enter the first layers."""

    model_type = "qwen3_vl"

    def expand(self, text: str, video: CompressedVideo) -> str:
        group = _START + _PAD * video.groups_KPD.shape[1] + _END
        times = video.times_K.tolist()
        return text.replace(VIDEO_MARK, "".join(f"<{t:.1f} seconds>{group}" for t in times))

    def blocks(self, video: CompressedVideo) -> list[VisualBlock]:
        return [VisualBlock((0,), video.grid_hw)] * len(video.groups_KPD)

    def expand_tokens(self, text: str, cut: CutTokens) -> str:
        """Tokens of one event at the same tenth of a second share a time and a block."""
        keys = list(zip(cut.events_N.tolist(), np.round(cut.seconds_N, 1).tolist(), strict=True))
        blocks = [
            f"<{seconds:.1f} seconds>{_START}{_PAD * len(list(same))}{_END}"
            for (_, seconds), same in groupby(keys)
        ]
        return text.replace(VIDEO_MARK, "".join(blocks))

    def token_positions(self, cut: CutTokens) -> torch.Tensor:
        """Rows and columns; time stands in the text."""
        places_N2 = torch.from_numpy(np.floor(cut.places_N2 + _HALF_UP)).long()
        return torch.cat([torch.zeros(cut.num_tokens, 1, dtype=torch.long), places_N2], dim=1)

    @property
    def num_deepstack(self) -> int:
        return len(self.model_config.vision_config.deepstack_visual_indexes)

    def encoder_outputs(
        self, tokens: Sequence[torch.Tensor], deepstack: Sequence[torch.Tensor | None]
    ) -> Any:
        from transformers.models.qwen3_vl.modeling_qwen3_vl import (
            BaseModelOutputWithDeepstackFeatures,
        )

        layers = [video for video in deepstack if video is not None]
        assert len(layers) == len(tokens), "Qwen3-VL needs deepstack features"
        flat: Any = list(tokens)
        by_layer: Any = [list(same_layer) for same_layer in zip(*layers, strict=True)]
        return BaseModelOutputWithDeepstackFeatures(pooler_output=flat, deepstack_features=by_layer)

    def tower_class(self) -> Any:
        from transformers.models.qwen3_vl import modeling_qwen3_vl

        return modeling_qwen3_vl.Qwen3VLVisionModel

    def deepstack(self, output: Any) -> list[torch.Tensor]:
        return list(output.deepstack_features)


_ADAPTERS = {cls.model_type: cls for cls in (Adapter, Qwen25Adapter, Qwen3Adapter)}
FAMILIES = tuple(_ADAPTERS)
"""`model_type` of the models that a student may be."""


def make_adapter(
    model_config: Any, *, temporal_positions: Literal["time", "grid"] = "time"
) -> Adapter:
    """Return the adapter of a model configuration. Raises ModelLoadError for other families."""
    model_type = str(model_config.model_type)
    if model_type not in FAMILIES:
        raise ModelLoadError(
            f"The student must be of type {', '.join(FAMILIES)}. Got '{model_type}'. "
            "Set student.model to a checkpoint of one of these families."
        )
    return _ADAPTERS[model_type](model_config, temporal_positions=temporal_positions)
