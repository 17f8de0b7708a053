"""Another encoder for a memory: the stages and the memory are real, Ray is not."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from jobs.index import _resolve, plan_lines
from jobs.index_report import report_lines
from marc_core.config import IndexConfig, config_to_yaml, load_config
from marc_core.embed import encoder_facts, load_encoder
from marc_core.errors import MemoryStoreError
from marc_core.memory import MemoryStore
from pipelines import embeddings, writing
from pipelines.blocks import deal
from pipelines.index import index_archive, plan_archive, preview, survey
from pipelines.plan import collect
from pipelines.redo import ReadStage
from pipelines.stages import DecodeStage, EncodeStage
from tests.encoders import save_encoder

NUM_VIDEOS, NUM_EVENTS = 3, 6


class LocalRay:
    """Blocks by value instead of by reference."""

    @staticmethod
    def get(blocks):
        return blocks


def through(stages, table):
    parcels = deal(table, actors=1)
    for stage in stages:
        parcels = [out for parcel in parcels for out in stage(parcel)]
    stages[0].decoder.close()
    return parcels


def index_here(config: IndexConfig) -> MemoryStore:
    """What `index_archive` does with new videos, in this process."""
    listing, encoder, fingerprints = survey(config)
    store = MemoryStore.open(
        config.memory, embedding_dim=encoder.dim, encoder_fingerprint=encoder.fingerprint,
        create=True,
    )  # fmt: skip
    store.record_run(config_to_yaml(config))
    plan = plan_archive(collect(listing), store.video_states(), fingerprints, config)
    stages = [DecodeStage(config), EncodeStage(config, fingerprints)]
    writing.Writer(config, encoder.dim).write(through(stages, plan.work))
    return store


@pytest.fixture(autouse=True)
def no_ray(monkeypatch) -> list[int]:
    """Chains run in this process; returns how many videos each was given."""
    given = []

    def run_chain(work, turn, *, make, config, embedding_dim, count):
        given.append(work.num_rows)
        stages = [ReadStage(config, None), make.keywords["stage"](config)]
        written = writing.Writer(config, embedding_dim).write(through(stages, work))
        count(written.videos, written.failed)
        return dict(written.kept)

    monkeypatch.setattr(writing, "ray", LocalRay)
    monkeypatch.setattr(embeddings, "run_chain", run_chain)
    return given


@pytest.fixture(scope="module")
def other(tmp_path_factory) -> str:
    """Another encoder, of another dimension."""
    directory = tmp_path_factory.mktemp("other")
    save_encoder(directory, "siglip")
    return str(directory)


@pytest.fixture(scope="module")
def archive(tmp_path_factory, clip_writer: Callable[..., Path]) -> Path:
    """Three clips of two events."""
    folder = tmp_path_factory.mktemp("clips")
    for i in range(NUM_VIDEOS):
        clip_writer(folder / f"{i}.mp4", seconds=2.0, seed=i)
    return folder


@pytest.fixture(scope="module")
def indexed(tmp_path_factory, archive: Path) -> Path:
    """A memory of the clips."""
    memory = tmp_path_factory.mktemp("indexed") / "memory"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writing, "ray", LocalRay)
        index_here(configured(archive, memory))
    return memory


@pytest.fixture
def config(tmp_path: Path, indexed: Path, archive: Path) -> IndexConfig:
    """The memory's configuration; the memory is a copy."""
    shutil.copytree(indexed, tmp_path / "memory")
    return configured(archive, tmp_path / "memory")


def configured(archive: Path, memory: Path, *overrides: str) -> IndexConfig:
    given = [f"archive=['{archive}']", f"memory.uri='{memory}'", "memory.store_features=false"]
    given += ["text.speech=off", "text.writing=off"]
    return load_config(IndexConfig, preset="tiny", overrides=[*given, *overrides])


def with_encoder(config: IndexConfig, model: str, *, only: str = "embeddings") -> IndexConfig:
    return replace(config, encoder=replace(config.encoder, model=model), only=only)


def events(store: MemoryStore, *, without: tuple[str, ...] = ()) -> list[dict]:
    store.refresh()
    return (
        store.tables.events.search()
        .to_arrow()
        .sort_by("event_id")
        .drop_columns(list(without))
        .to_pylist()
    )


def test_the_memory_is_that_of_a_fresh_index_with_the_other_encoder(
    config, other, tmp_path, archive, monkeypatch, no_ray
) -> None:
    fresh = index_here(configured(archive, tmp_path / "fresh", f"encoder.model='{other}'"))
    before = events(MemoryStore.open(config.memory), without=("embedding",))
    wanted = with_encoder(config, other)

    def no_cut(*_, **__):
        raise AssertionError("events are cut again")

    monkeypatch.setattr("marc_core.indexing.cut", no_cut)
    monkeypatch.setattr("marc_core.indexing.decode_video", no_cut)
    report = index_archive(wanted)
    assert (report.embeddings_redone, report.embeddings_missing, report.kept) == (3, 0, {})
    assert (report.found, report.already, report.indexed) == (3, 3, 0)
    assert no_ray == [3]

    store = MemoryStore.open(config.memory)
    assert store.meta == fresh.meta
    assert store.meta.embedding_dim != encoder_facts(config.encoder).dim
    assert events(store, without=("embedding",)) == before
    assert len(before) == NUM_EVENTS
    for made, new in zip(events(store), events(fresh), strict=True):
        np.testing.assert_allclose(made["embedding"], new["embedding"], atol=1e-6)
        assert made["frame_times_s"] == new["frame_times_s"]
    # An ordinary run finds nothing to do, and a second one of this kind neither.
    assert preview(replace(wanted, only="all")).why == {"indexed": 3}
    assert index_archive(wanted).embeddings_redone == 0
    assert no_ray == [3]
    # Questions take the new encoder, and all else as it was.
    recorded = load_config(IndexConfig, stored=store.last_config())
    assert recorded.encoder.model == other
    assert recorded.memory.store_features is False


def test_nothing_is_exchanged_while_a_source_is_gone(config, other, archive, no_ray) -> None:
    old = events(MemoryStore.open(config.memory))
    wanted = with_encoder(config, other)
    (archive / "1.mp4").rename(archive / "gone")
    try:
        report = index_archive(replace(wanted, archive=()))
        again = index_archive(replace(wanted, archive=()))
    finally:
        (archive / "gone").rename(archive / "1.mp4")
    assert (report.embeddings_redone, report.embeddings_missing) == (2, 1)
    assert (again.embeddings_redone, again.embeddings_missing) == (0, 1)
    assert report.kept == again.kept
    assert list(report.kept) == [str(archive / "1.mp4")]
    lines = " ".join(line for line, _ in report_lines(report, "m"))
    for words in ("2 with new embeddings", "1 without", "1.mp4' no longer exists", "marc prune"):
        assert words in lines
    store = MemoryStore.open(config.memory)
    assert events(store) == old
    assert store.check_encoder(*facts(config)) is None
    assert load_config(IndexConfig, stored=store.last_config()).encoder == config.encoder
    assert no_ray == [3, 1], "what failed for a reason of its own is not tried twice"

    report = index_archive(wanted)
    assert (report.embeddings_redone, report.embeddings_missing) == (1, 0)
    assert no_ray == [3, 1, 1], "staged vectors are kept"
    MemoryStore.open(config.memory).check_encoder(*facts(wanted))


def test_pruning_finishes_it_too(config, other, archive) -> None:
    wanted = with_encoder(config, other)
    (archive / "1.mp4").rename(archive / "gone")
    try:
        assert index_archive(wanted).embeddings_missing == 1
        MemoryStore.open(config.memory).delete_video(str(archive / "1.mp4"))
        report = index_archive(wanted)
    finally:
        (archive / "gone").rename(archive / "1.mp4")
    assert (report.found, report.embeddings_redone, report.embeddings_missing) == (2, 0, 0)
    store = MemoryStore.open(config.memory)
    store.check_encoder(*facts(wanted))
    assert len(events(store)) == NUM_EVENTS - 2


def test_a_moved_file_is_found_in_the_archive(config, other, archive) -> None:
    wanted = with_encoder(config, other)
    (archive / "1.mp4").rename(archive / "moved.mp4")
    try:
        report = index_archive(wanted)
    finally:
        (archive / "moved.mp4").rename(archive / "1.mp4")
    assert (report.moved, report.embeddings_redone, report.embeddings_missing) == (1, 3, 0)


def test_a_run_that_was_killed_after_the_exchange_is_completed_by_any_run(
    config, other, monkeypatch, no_ray
) -> None:
    wanted = with_encoder(config, other)

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("marc_core.memory.embeddings._torn", killed)
        with pytest.raises(KeyboardInterrupt):
            index_archive(wanted)
    store = MemoryStore.open(config.memory)
    assert list(store.status()["staged"]) == [store.meta.encoder_fingerprint]
    report = index_archive(replace(wanted, only="all"))
    assert (report.already, report.indexed) == (3, 0)
    assert MemoryStore.open(config.memory).status()["staged"] == {}
    assert no_ray == [3]


def test_a_video_that_is_indexed_meanwhile_is_taken_up_by_the_next_run(
    config, other, clip_writer, tmp_path, monkeypatch, no_ray
) -> None:
    wanted, late = with_encoder(config, other), tmp_path / "late"
    run_chain = embeddings.run_chain

    def with_another_job(*args, **kwargs):
        made = run_chain(*args, **kwargs)
        if not late.exists():
            clip_writer(late / "late.mp4", seconds=2.0, seed=9)
            index_here(replace(config, archive=(str(late),)))
        return made

    monkeypatch.setattr(embeddings, "run_chain", with_another_job)
    report = index_archive(wanted)
    assert (report.embeddings_redone, report.embeddings_missing, report.found) == (3, 1, 4)
    assert index_archive(wanted).embeddings_redone == 1
    assert no_ray == [3, 1]
    assert len(events(MemoryStore.open(config.memory))) == NUM_EVENTS + 2


def facts(config: IndexConfig) -> tuple[int, str]:
    encoder = encoder_facts(config.encoder)
    return encoder.dim, encoder.fingerprint


def test_a_dry_run_says_how_many_events_and_why(config, other, archive) -> None:
    wanted = with_encoder(config, other)
    (_, old), (dim, new) = facts(config), facts(wanted)
    text = " ".join(plan_lines(wanted))
    assert "6 of the memory's 6 events would get new embeddings" in text
    assert "They are of 3 videos" in text
    assert "from an earlier run" not in text
    assert f"encoder {old}, " in text
    assert f"-> encoder {new}, {dim} dimensions" in text
    (archive / "1.mp4").rename(archive / "gone")
    try:
        index_archive(wanted)
    finally:
        (archive / "gone").rename(archive / "1.mp4")
    text = " ".join(plan_lines(wanted))
    assert "2 of the memory's 6 events" in text
    assert "They are of 1 video," in text
    assert "4 have them from an earlier run" in text
    index_archive(wanted)
    assert "Nothing to do" in " ".join(plan_lines(wanted))


def test_the_rest_of_the_configuration_is_the_memory_s(config, other, archive) -> None:
    """Only the encoder is asked for; the frames are those that the cuts were made of."""
    memory = config.memory.uri
    own = replace(config, video=replace(config.video, frame_max_pixels=32 * 28 * 28))
    MemoryStore.open(config.memory).record_run(config_to_yaml(own))
    given = [f"encoder.model={other}", "encoder.batch_size=5"]
    resolved = _resolve(given, memory, None, [], "embeddings")
    assert (resolved.encoder.model, resolved.encoder.batch_size) == (other, 5)
    assert resolved.video == own.video
    assert (resolved.memory, resolved.archive) == (own.memory, ())
    assert _resolve([], memory, None, [], "embeddings").encoder == own.encoder
    preset = _resolve([], memory, "qwen2.5-vl-3b", [], "embeddings")
    assert preset.encoder != own.encoder
    assert (preset.video, preset.student) == (own.video, own.student)
    assert _resolve([str(archive), "only=embeddings"], memory, None, []).video == own.video


def test_other_jobs_are_refused_with_the_command(config, other) -> None:
    command = f"marc index --only embeddings --memory {config.memory.uri} encoder.model="
    for run in (index_archive, preview):
        with pytest.raises(MemoryStoreError, match="Vectors of two encoders") as error:
            run(with_encoder(config, other, only="all"))
        assert command in str(error.value)
    assert load_encoder(config.encoder).dim == MemoryStore.open(config.memory).meta.embedding_dim
