"""The evaluation's archive in memory gives what a stored memory of the same files gives."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest

from marc_core.config import load_config
from marc_core.embed import load_encoder
from marc_core.evaluation.config import EvaluateConfig, VariantConfig
from marc_core.evaluation.datasets.sample import Sample
from marc_core.evaluation.variants.evaluator import Evaluator, OneVideo
from marc_core.evaluation.variants.footage import FileLoader
from marc_core.evaluation.variants.readers import Reader
from marc_core.evaluation.variants.sources import FootageSource, MemorySource, Source
from marc_core.evidence import Evidence
from marc_core.memory import MemoryStore
from marc_core.models.student_files import StudentFiles
from marc_core.models.vision_tower import VisionTower
from marc_core.question import EventFilter, Question
from marc_core.session import Session
from tests.marc_core.engines import EchoEngine
from tests.marc_core.memories import PictureChange

ASKED = ("What colour is the background?", "Which way does the red circle move?", "How many?")
VARIANTS = {
    "marc": VariantConfig(),
    "wide": VariantConfig(budget_tokens=27),
    "all": VariantConfig(events="all"),
    "oracle": VariantConfig(events="oracle"),
}


class Setting:
    """An evaluation over the small memory and over the files that it was made of."""

    def __init__(self, root: Path) -> None:
        self.config = load_config(
            EvaluateConfig,
            preset="tiny",
            overrides=[f"memory.uri='{root / 'runs' / 'memory'}'", "events.change_points=false"],
        )
        self.config = EvaluateConfig(
            **{f: getattr(self.config, f) for f in ("video", "events", "encoder", "student",
                                                    "compress", "retrieve", "memory")},
            variants=VARIANTS,
        )  # fmt: skip
        self.encoder = load_encoder(self.config.encoder)
        student, towers = self.config.student, dict[str, VisionTower]()
        self.reader = Reader(student, EchoEngine(), StudentFiles(student), towers)
        self.store = MemoryStore.open(self.config.memory)
        self.samples = [self.sample(str(root / "archive" / "video1.mp4"), t) for t in ASKED]

    def sample(self, path: str, text: str) -> Sample:
        return Sample(
            problem_id=text, benchmark="world", task="", problem=text, data_type="video",
            problem_type="multiple choice", options=("A. red", "B. blue"), solution="A", path=path,
            evidence=((0.0, 2.0),), tags=(),
        )  # fmt: skip

    def evidence(self, source: Source, variant: VariantConfig) -> list[Evidence]:
        readers = {"student": self.reader, "teacher": self.reader}
        evaluator = Evaluator(self.config, readers, self.encoder, source)
        ((opened, part),) = source.open(self.samples)
        shown = OneVideo(evaluator, opened, part)._show(part, variant, self.reader)
        return [s.evidence for s in shown]


@pytest.fixture(scope="module")
def setting(small_memory: Path) -> Setting:
    return Setting(small_memory)


@pytest.fixture(scope="module")
def footage_source(setting: Setting) -> Iterator[FootageSource]:
    loader = FileLoader(
        setting.config, setting.encoder, detector=PictureChange(setting.config.events)
    )
    yield FootageSource(setting.config, loader, setting.encoder, setting.reader)
    loader.decoder.close()


@pytest.mark.parametrize("name", VARIANTS)
def test_footage_and_memory_give_the_same_evidence(
    setting: Setting, footage_source: FootageSource, name: str
) -> None:
    from_memory = setting.evidence(
        MemorySource(setting.config, setting.store, setting.reader), VARIANTS[name]
    )
    from_footage = setting.evidence(footage_source, VARIANTS[name])
    assert_same(from_footage, from_memory)


def test_the_headline_variant_is_the_products_own_path(
    setting: Setting, footage_source: FootageSource, small_memory: Path
) -> None:
    import marc_core

    with marc_core.open(small_memory / "runs" / "memory") as session:
        where = EventFilter(video_ids=(session.video_id("video1.mp4"),))
        asked = [Question(text=t, options=("A. red", "B. blue"), filter=where) for t in ASKED]
        assert isinstance(session, Session)
        assert_same(
            setting.evidence(footage_source, VARIANTS["marc"]), session.preparer.prepare(asked)
        )


def assert_same(first: list[Evidence], second: list[Evidence]) -> None:
    """Token for token; citations but for the last bits of a cosine."""
    assert [e.key for e in first] == [e.key for e in second]
    for one, other in zip(first, second, strict=True):
        assert (one.retrieval, one.source_tokens) == (other.retrieval, other.source_tokens)
        names = ("event_id", "video_id", "uri", "start_s", "end_s", "video_start_s")
        pairs = zip(one.citations, other.citations, strict=True)
        for mine, yours in pairs:
            assert [getattr(mine, n) for n in names] == [getattr(yours, n) for n in names]
            assert mine.cosine == pytest.approx(yours.cosine, abs=1e-5)


def test_a_black_gap_is_cut_as_indexing_cuts_it(setting: Setting, tmp_path: Path) -> None:
    """The dark frames reach the cut: a gap in black joins no event, and makes none of its own."""
    from marc_core.indexing import cut, decode_video

    path = tmp_path / "gap.mp4"
    write_gap(path)
    loader = FileLoader(
        setting.config, setting.encoder, detector=PictureChange(setting.config.events)
    )
    footage = loader.load(str(path))
    decoded = decode_video(str(path), loader.decoder, PictureChange(setting.config.events))
    loader.decoder.close()
    assert decoded.dark.any()
    indexed = cut(decoded, setting.encoder, setting.config.events).events
    assert footage.spans == tuple((e.start_s, e.end_s) for e in indexed)
    assert len(footage.spans) == 2


def write_gap(path: Path) -> None:
    """Four seconds of one picture, two of black, four of another."""
    rng = np.random.default_rng(1)
    textures = rng.integers(0, 256, (2, 12, 20, 3), dtype=np.uint8).repeat(8, 1).repeat(8, 2)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"
        for i in range(100):
            black = 40 <= i < 60
            picture = np.roll(textures[int(i >= 60)], i, axis=1) * (not black)
            frame = av.VideoFrame.from_ndarray(picture.astype(np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
