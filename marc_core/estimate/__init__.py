"""What indexing an archive will cost, from a sample of it, before anything is indexed.

    videos --64, by bytes--> opened: how long they are --6, by length--> a stretch of each, copied
    out of its middle --> the stages that index it and make its texts, timed --> Estimate of all

A stretch goes through `decode_video`, `encode_video` and the text stages themselves, so its seconds
and its rows are those of indexing; all else is proportion. Nothing is written to the memory.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from marc_core.config import IndexConfig
from marc_core.errors import MarcError, VideoError
from marc_core.estimate.sample import Stretch, archive_s, copy_stretch, length_s, spread
from marc_core.estimate.stages import Costs, Stages
from marc_core.types import VideoSource

if TYPE_CHECKING:
    from marc_core.schemas import TextKind

OPENED = 64
"""Videos that are opened for their length; all, where there are no more (our choice)."""
TIMED = 6
"""Videos of which a stretch is indexed (our choice: half a minute on one core)."""
STRETCH_S = 20.0
"""Seconds of a stretch (our choice: some shots of edited material)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """What indexing will cost. Seconds are of one core, or of one GPU for `gpu_s`.

    videos: to index; pieces: as many as can be indexed at once, parts of long recordings counted
    singly. unreadable: the share of the videos that cannot be opened. opened, timed: videos in the
    sample. gpu_s: None where the encoder was not timed on a GPU. texts_s: of each text stage.
    busy: seconds by the clock that a second of a core took here, at least 1. left_out: lines that
    say which text stages cannot run, and why.
    """

    videos: int
    pieces: int
    unreadable: float
    opened: int
    timed: int
    video_s: float
    decode_s: float
    shots_s: float
    encode_s: float
    gpu_s: float | None
    busy: float
    memory_bytes: float
    texts_s: Mapping[TextKind, float] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()

    @property
    def index_s(self) -> float:
        """Seconds of one core until events can be found by what is seen."""
        return self.decode_s + self.shots_s + (self.encode_s if self.gpu_s is None else 0.0)

    @property
    def cpu_s(self) -> float:
        """Seconds of one core in all."""
        return self.index_s + sum(self.texts_s.values())

    def wall_s(self, *, cpus: float, decoders: float, encoders: float, start_s: float) -> float:
        """Return seconds by the clock on `cpus` cores with so many decoders and encoders at once.

        Indexing is as slow as the slowest of: all cores, the decoders, the encoders. Texts come
        after it, by as many workers as there were decoders. start_s: until either runs.
        """
        decode_s = (self.decode_s + self.shots_s) / max(decoders, 1)
        encode_s = (self.encode_s if self.gpu_s is None else self.gpu_s) / max(encoders, 1)
        seconds = start_s + self.busy * max(self.index_s / max(cpus, 1), decode_s, encode_s)
        if texts_s := sum(self.texts_s.values()):
            seconds += start_s + self.busy * texts_s / max(min(cpus, decoders, self.videos), 1)
        return seconds

    def to_json(self) -> dict[str, Any]:
        """Return every figure as plain JSON values."""
        return asdict(self) | {"cpu_s": self.cpu_s}


def estimate(sources: Sequence[VideoSource], config: IndexConfig) -> Estimate:
    """Return what indexing these videos with `config` will cost.

    Raises MarcError where none of the sample can be read, and ModelLoadError.
    """
    from marc_core.video.layout import part_seconds

    opened = [sources[i] for i in spread([s.size_bytes for s in sources], OPENED)]
    lengths = [length_s(source, config.archive_options) for source in opened]
    known = [(s, length) for s, length in zip(opened, lengths, strict=True) if length]
    if not known:
        raise MarcError(
            f"An estimate needs a video that says how long it is. Got none among {len(opened)} of "
            f"{len(sources)}; `marc index` says what is wrong with each."
        )
    timed = [known[i][0] for i in spread([length for _, length in known], TIMED)]
    costs = index_stretches(timed, config)
    video_s = archive_s(sources, opened, lengths)
    share = video_s / costs.video_s
    return Estimate(
        videos=len(sources),
        pieces=max(len(sources), round(video_s / part_seconds(config.video))),
        unreadable=lengths.count(0.0) / len(opened),
        opened=len(opened),
        timed=len(timed),
        video_s=video_s,
        decode_s=costs.decode_s * share,
        shots_s=costs.shots_s * share,
        encode_s=costs.encode_s * share,
        gpu_s=costs.encode_s * share if costs.gpu else None,
        busy=max(costs.wall_s / costs.all_s, 1.0),
        memory_bytes=costs.row_bytes * share,
        texts_s={kind: seconds * share for kind, seconds in costs.texts_s.items()},
        left_out=costs.left_out,
    )


def index_stretches(sources: Sequence[VideoSource], config: IndexConfig) -> Costs:
    """Index a stretch from the middle of each video, and return what all of them cost."""
    import torch

    from marc_core.embed import load_encoder
    from marc_core.models.vision_tower import VisionTower

    torch.set_num_threads(1)
    encoder = load_encoder(config.encoder)
    tower = VisionTower(config.student) if config.memory.store_features else None
    with (
        closing(Stages(config, encoder, tower)) as stages,
        tempfile.TemporaryDirectory() as folder,
    ):
        for i, source in enumerate(sources):
            # One that turns out to be damaged says nothing of the others.
            with suppress(VideoError), _stretch(source, Path(folder) / f"{i}.mkv", config) as piece:
                stages.read(piece, stages.index(piece))
        return stages.costs()


@contextmanager
def _stretch(source: VideoSource, out: Path, config: IndexConfig) -> Iterator[Stretch]:
    from marc_core.text import read_sidecar
    from marc_core.video import local_copy

    sidecar = read_sidecar(source, config.archive_options, config.clock.zone)
    with local_copy(source, config.archive_options) as path:
        piece = copy_stretch(path, out, STRETCH_S, stream=source.stream)
        yield replace(piece, synthetic=piece.synthetic or sidecar.synthetic)
