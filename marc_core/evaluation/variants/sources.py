"""Where an evaluation's archives come from: footage that it loads itself, or a stored memory.

FootageSource   a loader's Footage, cut to each clip -> FootageArchive
MemorySource    `marc index` has run: MemoryArchive, no video is opened
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

from marc_core.evaluation.variants.footage import Footage, Loader, clip
from marc_core.evaluation.variants.footage_archive import FootageArchive
from marc_core.question import EventFilter

if TYPE_CHECKING:
    from marc_core.archive import Archive, SearchHit
    from marc_core.config import CompressConfig, MethodConfig
    from marc_core.embed import DualEncoder
    from marc_core.evaluation.config import EvaluateConfig
    from marc_core.evaluation.datasets.sample import Sample
    from marc_core.evaluation.variants.readers import Reader
    from marc_core.memory import MemoryStore
    from marc_core.prepared import Uncut

EVERY_EVENT = 1_000_000
"""More events than a video has."""


class Opened(Protocol):
    """One video, or one stretch of it, ready to be asked about."""

    @property
    def archive(self) -> Archive:
        """Where its events are found."""
        ...

    @property
    def hits(self) -> Sequence[SearchHit]:
        """Its events in order."""
        ...

    @property
    def filter(self) -> EventFilter:
        """What keeps a question to them."""
        ...

    @property
    def timings_s(self) -> dict[str, float]:
        """Seconds of opening it, by step."""
        ...

    def view(self, reader: Reader, compress: CompressConfig, max_frames: int) -> Archive:
        """Return the archive with features for this reader and these settings."""
        ...

    def footage(self, reader: Reader, compress: CompressConfig, max_frames: int) -> FootageArchive:
        """Return the video's frames, for variants that choose some for each question."""
        ...

    def with_vision_time(self, uncut: Uncut, archive: Archive) -> Uncut:
        """Return `uncut` with what the tower took for its features, where it ran for them."""
        ...


class Source(Protocol):
    """Opens the videos that samples are about."""

    def missing(self, path: str) -> str | None:
        """Return why there is nothing to ask about, or None."""
        ...

    def open(self, samples: Sequence[Sample]) -> Iterator[tuple[Opened, list[Sample]]]:
        """Yield the parts of one video with the samples about them. Raises VideoError or
        SourceError."""
        ...


class FootageSource:
    """Loads each video once, and asks about it in memory."""

    def __init__(
        self, config: EvaluateConfig, loader: Loader, encoder: DualEncoder, reader: Reader
    ) -> None:
        self.config, self.loader, self.encoder, self.reader = config, loader, encoder, reader

    def missing(self, path: str) -> str | None:
        """Return why there is nothing to load, or None."""
        return None if self.loader.exists(path) else f"No file at '{path}'."

    def open(self, samples: Sequence[Sample]) -> Iterator[tuple[Opened, list[Sample]]]:
        """Load the samples' video and yield each clip of it."""
        footage = self.loader.load(samples[0].path)
        for part in by_clip(samples):
            yield self._opened(clip(footage, part[0])), part

    def _opened(self, footage: Footage) -> OpenedFootage:
        variants = self.config.chosen_variants().values()
        archive = FootageArchive(
            [footage],
            encoder=self.encoder,
            tower=self.reader.load_tower(),
            compress=self.config.compress,
            max_frames=self.config.student.max_frames,
        )
        started = time.perf_counter()
        if any(variant.events == "retrieved" for variant in variants):
            _ = archive.vectors_ED  # frames are embedded once, and here
        embed_s = time.perf_counter() - started
        timings = footage.timings_s | {"embed": footage.timings_s.get("embed", 0.0) + embed_s}
        return OpenedFootage(archive, timings)


class OpenedFootage:
    """One video in memory. Implements `Opened`."""

    def __init__(self, archive: FootageArchive, timings_s: dict[str, float]) -> None:
        self.archive, self.timings_s = archive, timings_s
        self.hits = archive.hits
        self.filter = EventFilter(video_ids=(archive.hits[0].video_id,))

    def view(self, reader: Reader, compress: CompressConfig, max_frames: int) -> FootageArchive:
        """Return the same video with features made for this reader; encodings are shared."""
        return self.archive.using(
            tower=reader.load_tower(), compress=compress, max_frames=max_frames
        )

    footage = view

    def with_vision_time(self, uncut: Uncut, archive: Archive) -> Uncut:
        """Return `uncut` with what the tower took for its events, whoever asked for them first."""
        assert isinstance(archive, FootageArchive)
        seconds = {"vision": archive.vision_s(uncut.chosen.hits)}
        return dataclasses.replace(uncut, timings_s=seconds)


class MemorySource:
    """A memory that `marc index` has made of the same files."""

    def __init__(self, config: EvaluateConfig, store: MemoryStore, reader: Reader) -> None:
        self.config, self.store, self.reader = config, store, reader

    def missing(self, path: str) -> str | None:
        """Return why there is nothing to ask about, or None."""
        row = self.store.get_video(os.path.abspath(path))
        found = row is not None and row["num_events"]
        return None if found else f"The memory holds no events of '{os.path.abspath(path)}'."

    def open(self, samples: Sequence[Sample]) -> Iterator[tuple[Opened, list[Sample]]]:
        """Yield each clip of the samples' video as a filter on the memory."""
        row = self.store.get_video(os.path.abspath(samples[0].path))
        assert row is not None, "missing() has looked"
        for part in by_clip(samples):
            where = EventFilter(
                video_ids=(row["video_id"],),
                start_s=part[0].clip_start_s,
                end_s=part[0].clip_end_s,
            )
            yield OpenedMemory(self.config, self.store, where), part


class OpenedMemory:
    """One video in a memory. Implements `Opened`."""

    def __init__(self, config: EvaluateConfig, store: MemoryStore, where: EventFilter) -> None:
        self.config, self.store, self.filter = config, store, where
        self.archive: Archive = self._archive(config)
        self.hits = self.archive.events(where, limit=EVERY_EVENT)
        self.timings_s: dict[str, float] = {}

    def view(self, reader: Reader, compress: CompressConfig, max_frames: int) -> Archive:
        """Return the memory with features for this reader and these settings."""
        student = dataclasses.replace(reader.config, max_frames=max_frames)
        config = dataclasses.replace(self.config, compress=compress, student=student)
        return self._archive(config)

    def _archive(self, config: MethodConfig) -> Archive:
        from marc_core.memory.archive import MemoryArchive

        return MemoryArchive(self.store, config)

    def footage(self, reader: Reader, compress: CompressConfig, max_frames: int) -> FootageArchive:
        """A memory has no frames in memory; the configuration admits no variant that asks."""
        raise AssertionError("EvaluateConfig admits only variants that read stored features")

    def with_vision_time(self, uncut: Uncut, archive: Archive) -> Uncut:
        """Return `uncut`: the tower ran only where the memory lacks features, and was timed."""
        return uncut


def by_clip(samples: Sequence[Sample]) -> list[list[Sample]]:
    """Group samples that are about the same stretch of their video, keeping the order."""
    groups: dict[tuple[float | None, float | None], list[Sample]] = {}
    for sample in samples:
        groups.setdefault((sample.clip_start_s, sample.clip_end_s), []).append(sample)
    return list(groups.values())


def open_source(config: EvaluateConfig, encoder: DualEncoder, reader: Reader) -> Source:
    """Return where this run's archives come from. Raises MemoryStoreError."""
    if config.use_memory:
        from marc_core.memory import MemoryStore

        store = MemoryStore.open(config.memory, embedding_dim=encoder.dim)
        return MemorySource(config, store, reader)
    from marc_core.evaluation.datasets.questions import make_loader

    return FootageSource(config, make_loader(config, encoder), encoder, reader)
