"""The stages of indexing in one process, timed: what stretches of video cost.

    stretch --decode_video, encode_video--> rows --TextStage.texts--> lines --> Costs of all

These are the functions that a job calls, so the seconds and the rows are those of indexing.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from marc_core.config import IndexConfig
from marc_core.errors import MarcError, VideoError
from marc_core.estimate.cpu_time import children_cpu_s
from marc_core.text.stages import make_stage, stage_names, switched_on

if TYPE_CHECKING:
    from marc_core.embed import DualEncoder
    from marc_core.estimate.sample import Stretch
    from marc_core.indexing import IndexedVideo
    from marc_core.models.vision_tower import VisionTower
    from marc_core.schemas import TextKind
    from marc_core.text.stage import Span, TextStage
    from marc_core.video import IsolatedDecoder


@dataclass(frozen=True, kw_only=True, slots=True)
class Costs:
    """What stretches of video have cost together: seconds of one core, bytes of rows.

    video_s: their length. wall_s: seconds that all of it took. encode_s: of the encoders, on
    whatever device; gpu: whether that was a GPU. texts_s: of each text stage. left_out: lines that
    say which text stages cannot run, and why.
    """

    video_s: float
    decode_s: float
    shots_s: float
    encode_s: float
    wall_s: float
    row_bytes: int
    gpu: bool = False
    texts_s: Mapping[TextKind, float] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()

    @property
    def all_s(self) -> float:
        """Seconds of all stages."""
        return self.decode_s + self.shots_s + self.encode_s + sum(self.texts_s.values())


class Stages:
    """The stages of indexing in one process, and what they have cost so far; close when done."""

    def __init__(
        self, config: IndexConfig, encoder: DualEncoder, tower: VisionTower | None
    ) -> None:
        import torch

        from marc_core.events import ShotDetector
        from marc_core.video import IsolatedDecoder

        self.config, self.encoder, self.tower = config, encoder, tower
        self._gpu = torch.cuda.is_available()
        self._detector = ShotDetector(config.events)
        self.decoder = IsolatedDecoder(config.video)
        _start(self.decoder)
        self._texts = TextStages(config)
        self._seconds = dict.fromkeys(("video", "decode", "shots", "encode", "wall"), 0.0)
        self._row_bytes = 0

    def index(self, stretch: Stretch) -> IndexedVideo:
        """Index a file, as pipelines do; its rows go nowhere."""
        from marc_core.indexing import decode_video, encode_video
        from marc_core.text import Sidecar
        from marc_core.video.source import local_source

        started_s = time.perf_counter()
        with self._clock("shots", time.process_time), self._clock("decode", children_cpu_s):
            decoded = decode_video(
                stretch.path, self.decoder, self._detector, stream=stretch.stream
            )
        now = time.perf_counter if self._gpu else time.process_time
        with self._clock("encode", now):
            rows = encode_video(
                local_source(stretch.path),
                decoded,
                Sidecar(synthetic=stretch.synthetic),
                config=self.config,
                encoder=self.encoder,
                tower=self.tower,
            )
        self._seconds["wall"] += time.perf_counter() - started_s
        self._seconds["video"] += decoded.summary.end_s - decoded.summary.start_s
        tables = (rows.videos, rows.events, rows.texts, rows.features)
        self._row_bytes += sum(table.nbytes for table in tables if table is not None)
        return rows

    def read(self, stretch: Stretch, rows: IndexedVideo) -> None:
        """Let the text stages that a job would use look at a file whose rows these are."""
        self._texts.read(stretch, rows)

    def costs(self) -> Costs:
        """Return what everything so far has cost. Raises MarcError where nothing was indexed."""
        seconds, texts = self._seconds, self._texts
        if not seconds["video"]:
            raise MarcError(
                "An estimate needs a video that can be decoded. Got none in the sample."
            )
        return Costs(
            video_s=seconds["video"],
            decode_s=seconds["decode"],
            shots_s=seconds["shots"],
            encode_s=seconds["encode"],
            wall_s=seconds["wall"] + texts.wall_s,
            row_bytes=self._row_bytes + texts.row_bytes,
            gpu=self._gpu,
            texts_s=dict(texts.seconds),
            left_out=tuple(texts.left_out),
        )

    def close(self) -> None:
        """End the children."""
        self.decoder.close()
        self._texts.close()

    @contextmanager
    def _clock(self, name: str, now: Callable[[], float]) -> Iterator[None]:
        """Add what a block takes by the clock `now`."""
        started = now()
        yield
        self._seconds[name] += now() - started


class TextStages:
    """The text stages, each made when a video first needs it, and what they have cost.

    What starting a child and loading a model cost does not count: a stage looks twice at each file
    until it has found something, for which it loads the model.
    """

    def __init__(self, config: IndexConfig) -> None:
        self._config, self._modes = config, switched_on(config.text)
        self._stages: dict[TextKind, TextStage] = {}
        self._loaded: set[TextKind] = set()
        self.seconds: dict[TextKind, float] = {}
        self.wall_s = 0.0
        self.row_bytes = 0
        self.left_out: list[str] = []

    def read(self, stretch: Stretch, rows: IndexedVideo) -> None:
        """Make the texts of a file, as `pipelines.texts` does. Raises VideoError."""
        (video,) = rows.videos.select(["video_id", "synthetic", "warnings"]).to_pylist()
        spans = _spans(rows)
        for kind, mode in list(self._modes.items()):
            if mode == "on" or not video["synthetic"]:
                self._read(kind, stretch, spans, video["video_id"], video["warnings"] or ())

    def close(self) -> None:
        """End the stages' children."""
        for stage in self._stages.values():
            stage.close()

    def _read(
        self,
        kind: TextKind,
        stretch: Stretch,
        spans: list[Span],
        video_id: str,
        warnings: tuple[str, ...],
    ) -> None:
        import pyarrow as pa

        from marc_core import schemas
        from marc_core.text_rows import stage_rows

        stage = self._stage(kind)
        if stage is None:
            return
        for _ in range(1 if kind in self._loaded else 2):
            started_s, started_cpu_s = time.perf_counter(), _cpu_s()
            result = stage.texts(stretch.path, spans, stream=stretch.stream, warnings=warnings)
            cpu_s, wall_s = _cpu_s() - started_cpu_s, time.perf_counter() - started_s
        if result.seconds:
            self._loaded.add(kind)
        self.seconds[kind] = self.seconds.get(kind, 0.0) + cpu_s
        self.wall_s += wall_s
        lines = stage_rows(spans, video_id, kind, result.lines, stage.fingerprint)
        self.row_bytes += pa.Table.from_pylist(lines, schema=schemas.TEXTS).nbytes

    def _stage(self, kind: TextKind) -> TextStage | None:
        """Return the stage; None where its packages are missing, which is said once."""
        if kind not in self._stages:
            names, left_out = stage_names({kind: self._modes[kind]}, self._config)
            self.left_out += left_out
            if kind not in names:
                del self._modes[kind]
                return None
            self._stages[kind] = make_stage(kind, self._config)
        return self._stages[kind]


def _spans(rows: IndexedVideo) -> list[Span]:
    from marc_core.text.stage import Span

    columns = ["event_id", "start_s", "end_s", "frame_times_s"]
    return [
        Span(**event | {"frame_times_s": tuple(event["frame_times_s"] or ())})
        for event in rows.events.select(columns).to_pylist()
    ]


def _start(decoder: IsolatedDecoder) -> None:
    """Start a decoder's child, which costs the same however much there is to decode."""
    with tempfile.NamedTemporaryFile(suffix=".mp4") as empty, suppress(VideoError):
        decoder.read_frames(empty.name, [0.0])


def _cpu_s() -> float:
    return time.process_time() + children_cpu_s()
