"""`marc index --estimate` in words; what it measures is tested in marc_core."""

from contextlib import contextmanager
from dataclasses import replace

import pytest

import jobs.estimate
from jobs.estimate import START_S, cluster, estimate_lines, print_estimate, wall_s
from marc_core.config import IndexConfig, load_config
from marc_core.errors import ConfigError
from marc_core.estimate import Estimate
from pipelines.pools import Capacity

KNOWN = Estimate(
    videos=1200, pieces=1200, unreadable=0.25, opened=64, timed=6, video_s=36_000, decode_s=7200,
    shots_s=3600, encode_s=1800, gpu_s=None, busy=1.0, memory_bytes=2.5e9,
)  # fmt: skip
TWO_CORES = Capacity(cpus=2, gpus=0, most_cpus=2, most_gpus=0)


def test_everything_asked_for_is_said():
    seconds = wall_s(KNOWN, IndexConfig(), TWO_CORES)
    text = "\n".join(estimate_lines(KNOWN, TWO_CORES, seconds))
    assert "10.00 h of video in 1,200 videos" in text
    words = " ".join(text.split())
    assert "3.50 CPU hours: 2.00 decode 1.00 shots 0.50 encode" in words
    assert "25% of 64 looked at cannot be opened" in text
    assert "2.5 GB of memory" in text
    assert "105 min on this cluster (2 CPUs, 0 GPUs)" in text


def test_text_stages_have_their_lines_and_take_time_after_indexing():
    with_texts = replace(KNOWN, texts_s={"speech": 3600.0}, left_out=("No texts of kind writing",))
    before, after = (wall_s(known, IndexConfig(), TWO_CORES) for known in (KNOWN, with_texts))
    words = " ".join(" ".join(estimate_lines(with_texts, TWO_CORES, after)).split())
    assert "4.50 CPU hours" in words
    assert "1.00 speech (text.speech=off does without)" in words
    assert "No texts of kind writing" in words
    assert after - before == pytest.approx(START_S + 3600 / 2)


def test_gpus_have_their_own_hours_and_are_missed_where_they_could_not_be_timed():
    eight = Capacity(cpus=8, gpus=1, most_cpus=8, most_gpus=1)
    timed = replace(KNOWN, gpu_s=720.0)
    lines = list(estimate_lines(timed, eight, wall_s(timed, IndexConfig(), eight)))
    assert any("0.20 GPU hours" in line for line in lines)
    assert any("3.00 CPU hours" in line for line in lines)
    untimed = list(estimate_lines(KNOWN, eight, 1.0))
    assert any("timed on a CPU" in line for line in untimed)


def test_more_cores_take_less_time_until_videos_run_out():
    def seconds(cpus, videos=1200):
        has = Capacity(cpus=cpus, gpus=0, most_cpus=cpus, most_gpus=0)
        return wall_s(replace(KNOWN, videos=videos, pieces=videos), IndexConfig(), has)

    assert seconds(4) < 0.6 * seconds(2)
    assert seconds(8) < 0.6 * seconds(4)
    assert seconds(1000) > 0.9 * KNOWN.encode_s / 62  # an encoder to 16 cores
    assert seconds(8, videos=1) == seconds(64, videos=1)


def test_only_indexing_is_estimated():
    with pytest.raises(ConfigError, match="leave one out"):
        print_estimate(IndexConfig(only="features"), None, as_json=False)


def test_what_a_cluster_cannot_run_is_refused_before_anything_is_indexed(tmp_path):
    (tmp_path / "no-video.mp4").write_bytes(b"1")
    overrides = [f"archive=['{tmp_path}']", f"memory.uri='{tmp_path}/m'", "encode_device=gpu"]
    config = load_config(IndexConfig, preset="tiny", overrides=overrides)
    with pytest.raises(ConfigError, match="needs 1 GPU; the cluster has 0"):
        print_estimate(config, "local", as_json=False)


def test_the_ray_that_runs_on_this_machine_counts_as_a_run_would_join_it(monkeypatch):
    """A run without an address joins it; so its address, and not this machine, is asked."""
    asked = []

    @contextmanager
    def session(address):
        asked.append(address)
        yield

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(jobs.estimate, "ray_session", session)
    monkeypatch.setattr(jobs.estimate, "running", lambda: "10.0.0.7:6379")
    monkeypatch.setattr("pipelines.pools.capacity", lambda: TWO_CORES)
    assert cluster(None) is TWO_CORES
    assert asked == [None]
    assert cluster("local") is not TWO_CORES
