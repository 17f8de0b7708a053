"""Stages without models whose videos take a second each; a module that workers import quickly."""

from __future__ import annotations

import time

from marc_core.errors import UnreadableVideoError
from pipelines.stages import DecodeStage, EncodeStage


class Slow(DecodeStage):
    """A second a video, which then fails; without decoder and detector."""

    def __init__(self, config):
        self.config = config

    def decode(self, row, source):
        time.sleep(1)
        raise UnreadableVideoError(source.uri)


class Light(EncodeStage):
    """Makes the rows of failures; without models."""

    def __init__(self, config, fingerprints):
        self.config, self.fingerprints = config, fingerprints
