"""Dual encoders: events and questions in one space (paper, section 3.1, contrastive model)."""

from marc_core.embed.load import load_encoder
from marc_core.embed.protocol import DualEncoder

__all__ = ["DualEncoder", "load_encoder"]
