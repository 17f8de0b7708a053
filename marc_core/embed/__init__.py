"""Dual encoders: events and questions in one space (paper, section 3.1, contrastive model)."""

from marc_core.embed.load import encoder_facts, load_encoder
from marc_core.embed.protocol import DualEncoder, EncoderFacts

__all__ = ["DualEncoder", "EncoderFacts", "encoder_facts", "load_encoder"]
