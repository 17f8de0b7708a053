"""CLIP, SigLIP and SigLIP2 through transformers' Auto classes: one class for the families.

Texts are prepared as in the families' training. SigLIP and SigLIP2: lower-case, padded to 64
tokens, no attention mask. CLIP: padded to the longest, with mask.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F

from marc_core.embed.images import naflex_patches, pixel_values

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from marc_core.embed.protocol import EncoderFacts
    from marc_core.embed.recipe import ImageRecipe

SIGLIP_TEXT_TOKENS = 64
"""Text length of SigLIP's and SigLIP2's training (their papers; the tower pools the last token)."""


class TransformersEncoder:
    """A `DualEncoder` around a loaded CLIP-like model and its tokenizer."""

    def __init__(
        self,
        *,
        model: Any,
        tokenizer: Any,
        recipe: ImageRecipe,
        batch_size: int,
        facts: EncoderFacts,
    ) -> None:
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.recipe = recipe
        self.batch_size = batch_size
        self.family: str = model.config.model_type
        self._facts = facts

    @property
    def dim(self) -> int:
        """Channels D of both outputs."""
        return self._facts.dim

    @property
    def fingerprint(self) -> str:
        """12 hex digits of configuration, recipe and weights."""
        return self._facts.fingerprint

    @property
    def hit_margin(self) -> float | None:
        """What marc.json beside the weights says, None without it."""
        return self._facts.hit_margin

    def encode_images(self, frames_NHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return (N, D) unit vectors of (N, H, W, 3) uint8 RGB frames of any size."""
        if frames_NHWC.ndim != 4 or frames_NHWC.shape[-1] != 3 or frames_NHWC.dtype != np.uint8:
            raise ValueError(
                f"Frames must be (N, H, W, 3) uint8. Got {frames_NHWC.shape} {frames_NHWC.dtype}."
            )
        return self._run(frames_NHWC, self._image_features)

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return (N, D) unit vectors of N texts; longer texts are cut at the model's limit."""
        return self._run(texts, self._text_features)

    def _run(self, items: Any, step: Callable[[Any], torch.Tensor]) -> NDArray[np.float32]:
        if len(items) == 0:
            return np.zeros((0, self.dim), dtype=np.float32)
        with torch.inference_mode():
            parts = [F.normalize(step(b).float(), dim=-1) for b in _chunks(items, self.batch_size)]
        result: NDArray[np.float32] = torch.cat(parts).cpu().numpy()
        return result

    def _image_features(self, frames_NHWC: NDArray[np.uint8]) -> torch.Tensor:
        frames = torch.tensor(np.ascontiguousarray(frames_NHWC))  # a copy: frames may be read-only
        x_NCHW = pixel_values(frames, self.recipe).to(self.model.device, self.model.dtype)
        return image_features(self.model, x_NCHW, self.recipe)

    def _text_features(self, texts: Sequence[str]) -> torch.Tensor:
        tokens = tokenize(self.tokenizer, list(texts), self.model.config)
        return text_features(self.model, {k: v.to(self.model.device) for k, v in tokens.items()})


def image_features(model: Any, x_NCHW: torch.Tensor, recipe: ImageRecipe) -> torch.Tensor:
    """Return (N, D) image features, not normalised; with gradients when they are enabled."""
    if recipe.max_patches is None:
        return torch.as_tensor(model.get_image_features(pixel_values=x_NCHW).pooler_output)
    patches_NLC = naflex_patches(x_NCHW, recipe.patch_size)
    n, length = patches_NLC.shape[:2]
    rows, columns = (s // recipe.patch_size for s in x_NCHW.shape[-2:])
    output = model.get_image_features(
        pixel_values=patches_NLC,
        pixel_attention_mask=torch.ones(n, length, dtype=torch.long, device=x_NCHW.device),
        spatial_shapes=torch.tensor([[rows, columns]] * n, device=x_NCHW.device),
    )
    return torch.as_tensor(output.pooler_output)


def text_features(model: Any, tokens: dict[str, torch.Tensor]) -> torch.Tensor:
    """Return (N, D) text features, not normalised; with gradients when they are enabled."""
    return torch.as_tensor(model.get_text_features(**tokens).pooler_output)


def tokenize(tokenizer: Any, texts: list[str], config: Any) -> dict[str, torch.Tensor]:
    """Return the text tower's inputs for `texts`, as its family was trained (see the module)."""
    limit = int(config.text_config.max_position_embeddings)
    if "siglip" in config.model_type:
        encoded = tokenizer(
            [text.lower() for text in texts],
            padding="max_length",
            max_length=min(SIGLIP_TEXT_TOKENS, limit),
            truncation=True,
            padding_side="right",
            return_tensors="pt",
        )
        return {"input_ids": encoded["input_ids"]}
    encoded = tokenizer(texts, padding=True, max_length=limit, truncation=True, return_tensors="pt")
    return {k: encoded[k] for k in ("input_ids", "attention_mask")}


def _chunks(items: Any, size: int) -> Iterator[Any]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
