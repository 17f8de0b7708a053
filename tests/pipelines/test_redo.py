"""Features redone without a new cut: other weights of the tower, no cut, no decode of the rest."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pyarrow as pa
import pytest
import torch
from safetensors.torch import load_file, save_file

from jobs.index import plan_lines
from marc_core.compress import Hierarchy
from marc_core.config import IndexConfig, load_config
from marc_core.embed import encoder_facts
from marc_core.errors import MissingFeaturesError
from marc_core.memory import MemoryStore
from marc_core.memory.archive import MemoryArchive
from marc_core.models.checkpoints import local_directory
from marc_core.question import EventFilter
from marc_core.types import EventFeatures
from marc_core.video import list_videos
from pipelines import writing
from pipelines.blocks import deal
from pipelines.index import preview, survey
from pipelines.plan import collect, plan_work, verdict, without_features
from pipelines.redo import FeatureStage, ReadStage
from pipelines.stages import DecodeStage, EncodeStage


class LocalRay:
    """Blocks by value instead of by reference."""

    @staticmethod
    def get(blocks):
        return blocks


@pytest.fixture
def config(tmp_path: Path, clip_writer: Callable[..., Path]) -> IndexConfig:
    for i in range(2):
        clip_writer(tmp_path / "archive" / f"{i}.mp4", seconds=2.0, seed=i)
    return load_config(
        IndexConfig,
        preset="tiny",
        overrides=[
            f"archive=['{tmp_path}/archive']",
            f"memory.uri='{tmp_path}/memory'",
            "text.speech=off",
            "text.writing=off",
        ],
    )


def planned(config: IndexConfig):
    listing, encoder, fingerprints = survey(config)
    store = MemoryStore.open(config.memory, embedding_dim=encoder.dim, create=True)
    states = store.video_states()
    return (
        store,
        fingerprints,
        plan_work(collect(listing), states, partial(verdict, fingerprints, config)),
    )


def through(stages, table: pa.Table) -> list[pa.Table]:
    parcels = deal(table, actors=1)
    for stage in stages:
        parcels = [out for parcel in parcels for out in stage(parcel)]
    stages[0].decoder.close()
    return parcels


def redone(config: IndexConfig, table: pa.Table) -> list[pa.Table]:
    return through([ReadStage(config, config.student.max_frames), FeatureStage(config)], table)


def test_other_features_are_made_without_a_new_cut(config, monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(writing, "ray", LocalRay)
    store, fingerprints, plan = planned(config)
    assert plan.why == {"new": 2}
    writer = writing.Writer(config, encoder_facts(config.encoder).dim)
    stages = [DecodeStage(config), EncodeStage(config, fingerprints)]
    assert writer.write(through(stages, plan.work))[:2] == (2, 0)
    events = store.tables.events.to_arrow().sort_by("event_id")
    ids = events["event_id"].to_pylist()
    indexed = store.load_features(ids, fingerprints.features)

    # The same settings give the same features: the frames are those that the events show.
    assert writer.write(redone(config, plan.work))[:2] == (2, 0)
    again = store.load_features(ids, fingerprints.features)
    for event_id in ids:
        torch.testing.assert_close(again[event_id].nodes_RD, indexed[event_id].nodes_RD)
        torch.testing.assert_close(again[event_id].positions_R3, indexed[event_id].positions_R3)

    # Others give others, and nothing else changes.
    other = replace(config, compress=replace(config.compress, stored_tokens=20))
    assert preview(other).why == {"features differ": 2}
    _, wanted, plan = planned(other)
    assert (plan.work.num_rows, plan.redo.num_rows) == (0, 2)
    assert writer.write(redone(other, plan.redo))[:2] == (2, 0)
    assert without_features(plan.redo, store.video_states(), wanted).num_rows == 0
    assert planned(other)[2].why == {"indexed": 2}
    assert store.tables.events.to_arrow().sort_by("event_id").equals(events)
    assert sorted(store.load_features(ids, wanted.features)) == sorted(ids)

    # A video that is gone keeps its features, and is left to the next run.
    third = replace(config, compress=replace(config.compress, stored_tokens=5))
    _, wanted, plan = planned(third)
    (tmp_path / "archive" / "1.mp4").unlink()
    written = writer.write(redone(third, plan.redo))
    (gone,) = [row["video_id"] for row in store.videos().to_pylist() if "1.mp4" in row["uri"]]
    assert (written.videos, written.failed, list(written.kept)) == (2, 1, [gone])
    assert "1.mp4' no longer exists" in written.kept[gone]
    assert without_features(plan.redo, store.video_states(), wanted).num_rows == 1
    assert set(store.videos()["status"].to_pylist()) == {"indexed"}


def copied_student(config: IndexConfig, folder: Path, part: str) -> IndexConfig:
    """The configuration with a student that differs in the weights whose name holds `part`."""
    shutil.copytree(local_directory("student", config.student.model, None), folder)
    (file,) = folder.glob("*.safetensors")
    weights = load_file(file)
    changed = [name for name in weights if part in name and weights[name].ndim > 1]
    assert changed
    for name in changed:
        weights[name] = weights[name] * 1.5
    save_file(weights, file, metadata={"format": "pt"})
    return replace(config, student=replace(config.student, model=str(folder)), only="features")


def test_features_follow_the_tower_not_the_language_model(config, monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(writing, "ray", LocalRay)
    store, fingerprints, plan = planned(config)
    writer = writing.Writer(config, encoder_facts(config.encoder).dim)
    writer.write(through([DecodeStage(config), EncodeStage(config, fingerprints)], plan.work))
    archive = MemoryArchive(store, config)
    hits = archive.events(EventFilter(), limit=99)
    before = archive.features(hits)

    tuned = copied_student(config, tmp_path / "tuned", "model.layers")
    assert preview(tuned).why == {"indexed": 2}
    for read, kept in zip(MemoryArchive(store, tuned).features(hits), before, strict=True):
        assert torch.equal(read.nodes_RD, kept.nodes_RD)

    other = copied_student(config, tmp_path / "other", "visual.blocks")
    assert preview(other).why == {"features differ": 2}
    assert "2 features differ" in " ".join(plan_lines(other))
    _, wanted, plan = planned(other)
    with pytest.raises(MissingFeaturesError):
        MemoryArchive(store, other).features(hits)
    assert writer.write(redone(other, plan.redo))[:2] == (2, 0)
    assert without_features(plan.redo, store.video_states(), wanted).num_rows == 0
    for made, old in zip(MemoryArchive(store, other).features(hits), before, strict=True):
        assert isinstance(made, Hierarchy)
        assert not torch.equal(made.nodes_RD, old.nodes_RD)


def test_only_features_indexes_nothing(config) -> None:
    plan = preview(replace(config, only="features"))
    assert (plan.work.num_rows, plan.redo.num_rows) == (0, 0)
    assert plan.why == {"left alone by only=features: new": 2}


def test_a_preview_makes_no_memory(config, tmp_path) -> None:
    assert preview(config).work.num_rows == 2
    assert not (tmp_path / "memory").exists()
    assert len(list(list_videos(config.archive, config.patterns, {}))) == 2


def test_groups_are_stored_beside_hierarchies_where_asked_for(config, monkeypatch) -> None:
    monkeypatch.setattr(writing, "ray", LocalRay)
    both = replace(config, memory=replace(config.memory, store_groups=True))
    store, fingerprints, plan = planned(both)
    writer = writing.Writer(both, encoder_facts(both.encoder).dim)
    writer.write(through([DecodeStage(both), EncodeStage(both, fingerprints)], plan.work))
    assert planned(both)[2].why == {"indexed": 2}
    archive = MemoryArchive(store, both)
    hits = archive.events(EventFilter(), limit=99)
    paper = replace(both, compress=replace(both.compress, mode="plain"))
    assert all(isinstance(f, Hierarchy) for f in archive.features(hits))
    assert all(isinstance(f, EventFeatures) for f in MemoryArchive(store, paper).features(hits))

    # Without groups they are another set of features: only these are redone, then all is there.
    assert preview(config).why == {"features differ": 2}
    _, _, plan = planned(config)
    writer = writing.Writer(config, encoder_facts(config.encoder).dim)
    assert writer.write(redone(config, plan.redo))[:2] == (2, 0)
    store.refresh()
    with pytest.raises(MissingFeaturesError):
        MemoryArchive(store, paper).features(hits)
    assert planned(config)[2].why == {"indexed": 2}
