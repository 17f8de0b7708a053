"""What indexing an archive will cost, from a sample of it, before anything is indexed.

    videos --64, by bytes--> opened: how long they are --6, by length--> a stretch of each, copied
    out of its middle --> the stages that index it, timed --> Estimate of the whole

A stretch goes through `decode_video` and `encode_video` themselves, so its seconds and its rows are
those of indexing; all else is proportion. Nothing is written to the memory.
"""

from __future__ import annotations

import resource
import tempfile
import time
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from marc_core.config import IndexConfig
from marc_core.errors import MarcError, UnreadableVideoError, VideoError
from marc_core.types import VideoSource

if TYPE_CHECKING:
    from av.video.stream import VideoStream

    from marc_core.embed import DualEncoder
    from marc_core.indexing import IndexedVideo
    from marc_core.models.vision_tower import VisionTower
    from marc_core.video import IsolatedDecoder

OPENED = 64
"""Videos that are opened for their length; all, where there are no more (our choice)."""
TIMED = 6
"""Videos of which a stretch is indexed (our choice: half a minute on one core)."""
STRETCH_S = 20.0
"""Seconds of a stretch (our choice: some shots of edited material)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Costs:
    """What stretches of video have cost together: seconds of one core, bytes of rows.

    video_s: their length. wall_s: seconds that all of it took. encode_s: of the encoders, on
    whatever device; gpu: whether that was a GPU.
    """

    video_s: float
    decode_s: float
    shots_s: float
    encode_s: float
    wall_s: float
    row_bytes: int
    gpu: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """What indexing will cost. Seconds are of one core, or of one GPU for `gpu_s`.

    videos: to index; unreadable: the share of them that cannot be opened. opened, timed: videos in
    the sample. gpu_s: None where the encoder was not timed on a GPU. busy: seconds by the clock
    that a second of a core took here, at least 1.
    """

    videos: int
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

    @property
    def cpu_s(self) -> float:
        """Seconds of one core in all."""
        return self.decode_s + self.shots_s + (self.encode_s if self.gpu_s is None else 0.0)

    def wall_s(self, *, cpus: float, decoders: float, encoders: float, start_s: float) -> float:
        """Return seconds by the clock on `cpus` cores with so many decoders and encoders at once.

        The slowest of: all cores, the decoders, the encoders. start_s: until they run.
        """
        decode_s = (self.decode_s + self.shots_s) / max(decoders, 1)
        encode_s = (self.encode_s if self.gpu_s is None else self.gpu_s) / max(encoders, 1)
        return start_s + self.busy * max(self.cpu_s / max(cpus, 1), decode_s, encode_s)

    def to_json(self) -> dict[str, Any]:
        """Return every figure as plain JSON values."""
        return asdict(self) | {"cpu_s": self.cpu_s}


def estimate(sources: Sequence[VideoSource], config: IndexConfig) -> Estimate:
    """Return what indexing these videos with `config` will cost.

    Raises MarcError where none of the sample can be read, and ModelLoadError.
    """
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
        unreadable=lengths.count(0.0) / len(opened),
        opened=len(opened),
        timed=len(timed),
        video_s=video_s,
        decode_s=costs.decode_s * share,
        shots_s=costs.shots_s * share,
        encode_s=costs.encode_s * share,
        gpu_s=costs.encode_s * share if costs.gpu else None,
        busy=max(costs.wall_s / (costs.decode_s + costs.shots_s + costs.encode_s), 1.0),
        memory_bytes=costs.row_bytes * share,
    )


def spread(weights: Sequence[float], count: int) -> list[int]:
    """Return at most `count` positions, evenly spread over the sum of the weights.

    The larger a weight, the likelier it is taken, and none twice; all, where there are no more.
    """
    if len(weights) <= count:
        return list(range(len(weights)))
    order = sorted(range(len(weights)), key=lambda i: weights[i])
    ends = list(accumulate(max(weights[i], 1e-9) for i in order))
    places = ((k + 0.5) / count * ends[-1] for k in range(count))
    return sorted({order[bisect_right(ends, place)] for place in places})


def length_s(source: VideoSource, options: Mapping[str, str]) -> float | None:
    """Return how long a video says that it is: 0 where it cannot be opened, None where it does not
    say. Only the container is read; nothing is decoded."""
    import av

    from marc_core.video import local_copy

    try:
        with local_copy(source, options) as path, av.open(path) as container:
            stream = container.streams.best("video")
            if stream is None:
                return 0.0
            if stream.duration and stream.time_base:
                return float(stream.duration * stream.time_base)
            return container.duration / av.time_base if container.duration else None
    except (MarcError, av.FFmpegError, OSError, ValueError):
        return 0.0


def archive_s(
    sources: Sequence[VideoSource],
    opened: Sequence[VideoSource],
    lengths: Sequence[float | None],
) -> float:
    """Return the seconds of video of all `sources`, from those of the `opened` ones.

    These were drawn in proportion to their bytes, so their mean of seconds a byte is the archive's.
    """
    sizes = [max(source.size_bytes, 1) for source in opened]
    pairs = [(n, s) for n, s in zip(lengths, sizes, strict=True) if n is not None]
    rate = sum(n / s for n, s in pairs) / len(pairs)
    if len(opened) < len(sources):
        return rate * sum(source.size_bytes for source in sources)
    silent = sum(s for n, s in zip(lengths, sizes, strict=True) if n is None)
    return sum(n for n, _ in pairs) + rate * silent


def index_stretches(sources: Sequence[VideoSource], config: IndexConfig) -> Costs:
    """Index a stretch from the middle of each video, and return what all of them cost."""
    import torch

    from marc_core.embed import load_encoder
    from marc_core.models.vision_tower import VisionTower
    from marc_core.video import local_copy

    torch.set_num_threads(1)
    encoder = load_encoder(config.encoder)
    tower = VisionTower(config.student) if config.memory.store_features else None
    stages = Stages(config, encoder, tower)
    with tempfile.TemporaryDirectory() as folder:
        for i, source in enumerate(sources):
            try:
                with local_copy(source, config.archive_options) as path:
                    stretch = copy_stretch(path, Path(folder) / f"{i}.mkv", STRETCH_S)
                stages.index(stretch)
            except VideoError:
                continue  # one that turns out to be damaged says nothing of the others
        return stages.costs()


class Stages:
    """The stages of indexing in one process, and what they have cost so far."""

    def __init__(
        self, config: IndexConfig, encoder: DualEncoder, tower: VisionTower | None
    ) -> None:
        import torch

        from marc_core.events import ShotDetector
        from marc_core.video import IsolatedDecoder

        self.config, self.encoder, self.tower = config, encoder, tower
        self._gpu = torch.cuda.is_available()
        self._start_s = child_start_s(config)
        self._children_s = _cpu_s(resource.RUSAGE_CHILDREN)
        self._detector = ShotDetector(config.events)
        self._decoder: IsolatedDecoder = IsolatedDecoder(config.video)
        self._seconds = {"video": 0.0, "shots": 0.0, "encode": 0.0, "wall": 0.0}
        self._row_bytes = 0

    def index(self, path: str) -> IndexedVideo:
        """Index a file, as pipelines do; its rows go nowhere."""
        from marc_core.indexing import decode_video, encode_video
        from marc_core.text import Sidecar
        from marc_core.video.source import local_source

        with self._clock("wall"):
            with self._clock("shots"):
                decoded = decode_video(path, self._decoder, self._detector)
            with self._clock("encode"):
                rows = encode_video(
                    local_source(path),
                    decoded,
                    Sidecar(),
                    config=self.config,
                    encoder=self.encoder,
                    tower=self.tower,
                )
        tables = (rows.videos, rows.events, rows.texts, rows.features)
        self._row_bytes += sum(table.nbytes for table in tables if table is not None)
        self._seconds["video"] += decoded.summary.end_s - decoded.summary.start_s
        return rows

    def costs(self) -> Costs:
        """Return what everything indexed so far has cost; ends the decoder."""
        self._decoder.close()
        if not self._seconds["video"]:
            raise MarcError(
                "An estimate needs a video that can be decoded. Got none in the sample."
            )
        children_s = _cpu_s(resource.RUSAGE_CHILDREN) - self._children_s
        return Costs(
            video_s=self._seconds["video"],
            decode_s=max(children_s - self._start_s, 0.0),
            shots_s=self._seconds["shots"],
            encode_s=self._seconds["encode"],
            wall_s=self._seconds["wall"],
            row_bytes=self._row_bytes,
            gpu=self._gpu,
        )

    @contextmanager
    def _clock(self, name: str) -> Iterator[None]:
        """Add the seconds of a block: of this process, or by the clock where a GPU works."""
        by_clock = name == "wall" or (name == "encode" and self._gpu)
        now = time.perf_counter if by_clock else time.process_time
        started = now()
        yield
        self._seconds[name] += now() - started


def child_start_s(config: IndexConfig) -> float:
    """Return the CPU seconds of a decoding process that starts and decodes nothing."""
    from marc_core.video import IsolatedDecoder

    before = _cpu_s(resource.RUSAGE_CHILDREN)
    with (
        tempfile.NamedTemporaryFile(suffix=".mp4") as empty,
        IsolatedDecoder(config.video) as one,
        suppress(VideoError),  # it has started
    ):
        one.read_frames(empty.name, [0.0])
    return _cpu_s(resource.RUSAGE_CHILDREN) - before


def _cpu_s(who: int) -> float:
    used = resource.getrusage(who)
    return used.ru_utime + used.ru_stime


def copy_stretch(path: str, out: Path, seconds: float) -> str:
    """Return a file with `seconds` from the middle of a video, copied packet by packet to `out`.

    The file itself where it is no longer than that, or where no copy can be made of it.
    Raises UnreadableVideoError.
    """
    import av

    try:
        with av.open(path) as given:
            stream = given.streams.best("video")
            if stream is None:
                raise UnreadableVideoError(f"'{path}' has no video stream.")
            length = float(given.duration or 0) / av.time_base
            if length <= seconds * 1.5:
                return path
            return _copy(given, cast("VideoStream", stream), out, length, seconds)
    except (av.FFmpegError, ValueError, OSError):
        return path


def _copy(given: Any, stream: VideoStream, out: Path, length_s: float, seconds: float) -> str:
    import av

    start_s = float(given.start_time or 0) / av.time_base
    given.seek(int((start_s + (length_s - seconds) / 2) * av.time_base))
    with av.open(str(out), "w") as copy:
        target, first_s = copy.add_stream_from_template(stream), None
        for packet in given.demux(stream):
            if packet.dts is None or packet.pts is None:
                continue
            time_s = float(packet.pts * packet.time_base)
            first_s = time_s if first_s is None else first_s
            if time_s - first_s > seconds:
                break
            packet.stream = target
            copy.mux(packet)
    return str(out)
