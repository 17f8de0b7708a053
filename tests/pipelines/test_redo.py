"""Features redone without a new cut: other weights of the tower, no cut, no decode of the rest."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from marc_core.config import IndexConfig, load_config
from marc_core.embed import encoder_facts
from marc_core.memory import MemoryStore
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
        clip_writer(tmp_path / "archive" / f"{i}.mp4", seconds=4.0, seed=i)
    return load_config(
        IndexConfig,
        preset="tiny",
        overrides=[f"archive=['{tmp_path}/archive']", f"memory.uri='{tmp_path}/memory'"],
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
    return parcels


def test_other_stage_1_settings_redo_features_alone(config, monkeypatch) -> None:
    monkeypatch.setattr(writing, "ray", LocalRay)
    store, fingerprints, plan = planned(config)
    assert plan.why == {"new": 2}
    writer = writing.Writer(config, encoder_facts(config.encoder).dim)
    indexed = through([DecodeStage(config), EncodeStage(config, fingerprints)], plan.work)
    assert writer.write(indexed) == (2, 0)
    before = store.tables.events.to_arrow()

    compress = dataclasses.replace(config.compress, event_ratio=1.0)
    other = dataclasses.replace(config, compress=compress)
    assert preview(other).why == {"features differ": 2}
    store, wanted, plan = planned(other)
    assert (plan.work.num_rows, plan.redo.num_rows) == (0, 2)
    redone = through([ReadStage(other), FeatureStage(other, wanted.features)], plan.redo)
    assert writer.write(redone) == (2, 0)
    assert without_features(plan.redo, store.video_states(), wanted).num_rows == 0
    assert planned(other)[2].why == {"indexed": 2}

    assert store.tables.events.to_arrow().sort_by("event_id").equals(before.sort_by("event_id"))
    fresh = through([DecodeStage(other), EncodeStage(other, wanted)], plan.redo)
    expected = {
        row["event_id"]: row
        for parcel in fresh
        for table in parcel["features"][0].as_py()
        for row in writing.from_ipc(table).to_pylist()
    }
    ids = sorted(expected)
    assert sorted(store.tables.features.to_arrow()["event_id"].to_pylist()) == ids
    for event_id, features in store.load_features(ids, wanted.features).items():
        assert features.times_T.tolist() == pytest.approx(expected[event_id]["times_s"])
        got = features.groups_TPD.float().numpy().ravel()
        assert np.isfinite(got).all()
        assert len(got) == np.prod(features.groups_TPD.shape)


def test_a_video_that_is_gone_keeps_its_features_and_is_left_to_the_next_run(
    config, monkeypatch, tmp_path
) -> None:
    monkeypatch.setattr(writing, "ray", LocalRay)
    store, fingerprints, plan = planned(config)
    writer = writing.Writer(config, encoder_facts(config.encoder).dim)
    stages = [DecodeStage(config), EncodeStage(config, fingerprints)]
    writer.write(through(stages, plan.work))
    other = dataclasses.replace(config, compress=dataclasses.replace(config.compress, window=2))
    store, wanted, plan = planned(other)
    (tmp_path / "archive" / "1.mp4").unlink()
    redone = through([ReadStage(other), FeatureStage(other, wanted.features)], plan.redo)
    assert writer.write(redone) == (2, 1)
    assert without_features(plan.redo, store.video_states(), wanted).num_rows == 1
    assert set(store.videos()["status"].to_pylist()) == {"indexed"}


def test_only_features_indexes_nothing(config) -> None:
    plan = preview(dataclasses.replace(config, only="features"))
    assert (plan.work.num_rows, plan.redo.num_rows) == (0, 0)
    assert plan.why == {"left alone by only=features: new": 2}


def test_a_preview_makes_no_memory(config, tmp_path) -> None:
    assert preview(config).work.num_rows == 2
    assert not (tmp_path / "memory").exists()
    assert len(list(list_videos(config.archive, config.patterns, {}))) == 2
