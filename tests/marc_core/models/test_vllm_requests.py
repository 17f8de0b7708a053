"""Requests in vLLM's words, as far as they can be checked without vLLM."""

from __future__ import annotations

import dataclasses
import importlib.util
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from marc_core.config import StudentConfig
from marc_core.errors import AnswerError, ConfigError, EngineError, ModelLoadError
from marc_core.models.engine import GenerationRequest
from marc_core.models.engine_calls import rows_of
from marc_core.models.loop_thread import LoopThread
from marc_core.models.sampling import keep_only, suppressed_ids
from marc_core.models.student_files import StudentFiles
from marc_core.models.vllm_requests import (
    check_device,
    check_family,
    check_temperature,
    engine_arguments,
    fit_rows,
    pushed,
    stored_end_ids,
    vllm_prompt,
)
from marc_core.models.weight_update import weights_directory
from marc_core.question import Sampling


@pytest.fixture
def files(student_config):
    return StudentFiles(student_config(temporal_positions="grid"))


def rows(files, evidence, **sampling):
    request = GenerationRequest(id="r", evidence=evidence, sampling=Sampling(**sampling))
    suppressed = suppressed_ids(files.model_config)
    return rows_of(
        request, files.config, files, end_ids=stored_end_ids(files), suppressed_ids=suppressed
    )


@pytest.mark.parametrize("groups", [1, 2, 3, 8])
def test_the_prompt_has_one_video_token_and_the_video_its_grid(groups, files, make_evidence):
    evidence = make_evidence(files.config, groups=groups)
    prompt = vllm_prompt(evidence, files.model_config, torch.bfloat16)
    ids, video = prompt["prompt_token_ids"], prompt["multi_modal_data"]["video"]
    assert ids.count(files.model_config.video_token_id) == 1
    assert len(ids) == len(evidence.before_ids) + 1 + len(evidence.after_ids)
    assert video["video_grid_thw"][0, 0] == groups
    assert video["video_grid_thw"].prod() == 4 * evidence.num_tokens
    assert video["video_embeds"].shape == evidence.tokens_ND.shape
    assert video["video_embeds"].dtype == torch.bfloat16
    spacing = (
        video["second_per_grid_ts"].item() * files.model_config.vision_config.tokens_per_second
    )
    ticks = [int(k * spacing) for k in range(groups)]
    per_group = evidence.num_tokens // groups
    assert ticks == evidence.positions_N3[::per_group, 0].tolist()
    assert prompt["multi_modal_uuids"] == {"video": [evidence.visual_key]}


def test_a_prompt_of_text_has_no_video(files, make_evidence):
    evidence = make_evidence(files.config, groups=0)
    prompt = vllm_prompt(evidence, files.model_config, torch.float32)
    assert prompt == {"prompt_token_ids": [*evidence.before_ids, *evidence.after_ids]}


def test_own_times_are_refused(student_config, make_evidence):
    """Merged groups at times of their own, the default of the transformers engine."""
    config = student_config()
    evidence = make_evidence(config, groups=4)
    positions = evidence.positions_N3.clone()
    positions[-1:, 0] += 1
    uneven = dataclasses.replace(evidence, positions_N3=positions)
    with pytest.raises(AnswerError):
        vllm_prompt(uneven, StudentFiles(config).model_config, torch.float32)


def test_qwen2_vl_has_no_seconds(student_config, make_evidence):
    config = student_config("qwen2_vl")
    evidence = make_evidence(config, groups=3)
    prompt = vllm_prompt(evidence, StudentFiles(config).model_config, torch.float32)
    assert set(prompt["multi_modal_data"]["video"]) == {"video_embeds", "video_grid_thw"}


def test_wrong_rows_and_sizes_are_refused_before_vllm_sees_them(files, make_evidence):
    good = make_evidence(files.config, groups=2)
    for wrong in ({"tokens_ND": good.tokens_ND[:-1]}, {"tokens_ND": good.tokens_ND[:, :16]},
                  {"tokens_ND": good.tokens_ND[None]}):  # fmt: skip
        with pytest.raises(AnswerError):
            rows(files, dataclasses.replace(good, **wrong))


def test_qwen3_vl_is_refused(student_config):
    with pytest.raises(ModelLoadError, match="qwen3_vl"):
        check_family(StudentFiles(student_config("qwen3_vl")))


def test_prompts_fit_vllms_length(files, make_evidence):
    evidence = make_evidence(files.config, groups=2)
    (row,) = rows(files, evidence, max_tokens=100)
    size = len(evidence.before_ids) + evidence.num_tokens + len(evidence.after_ids)
    fit_rows([row], size + 7)
    assert (row.prompt_tokens, row.max_tokens) == (size, 7)
    with pytest.raises(AnswerError, match=f"Got {size}"):
        fit_rows([row], size)


def test_tokens_behind_the_end_are_dropped(files, make_evidence):
    """vLLM joins outputs that were not fetched in time."""
    ends = stored_end_ids(files)
    (row,) = rows(files, make_evidence(files.config), max_tokens=9)
    word = files.tokenizer.convert_tokens_to_ids("red")
    ids = [word, ends[0], word]
    output = SimpleNamespace(
        token_ids=ids, logprobs=[{i: SimpleNamespace(logprob=-0.5)} for i in ids]
    )
    deltas = pushed(row, output, ends)
    assert [d.token_ids for d in deltas] == [(word,), (ends[0],)]
    done = row.completion()
    assert (done.finish_reason, done.text, done.log_probs) == ("stop", "red", (-0.5, -0.5))


def test_end_tokens_are_those_of_the_loaded_model(files):
    from marc_core.models.loading import load_model
    from marc_core.models.sampling import end_ids

    model, _, _ = load_model(files.config)
    assert stored_end_ids(files) == end_ids(model.generation_config, files.tokenizer)


def test_options_cannot_replace_what_marc_relies_on(tmp_path):
    found = engine_arguments(tmp_path, torch.float32, {"max_model_len": 512})
    assert (found["max_model_len"], found["dtype"]) == (512, "float32")
    with pytest.raises(ConfigError, match="logprobs_mode"):
        engine_arguments(tmp_path, torch.float32, {"logprobs_mode": "raw_logprobs"})


def test_temperatures_that_vllm_would_change_are_refused():
    for good in (0.0, 0.01, 2.0):
        check_temperature(good)
    for wrong in (0.001, 2.5):
        with pytest.raises(AnswerError, match=f"Got {wrong}"):
            check_temperature(wrong)


def test_the_device_is_that_of_the_build():
    check_device("auto", "cpu")
    check_device("cuda:1", "cuda")
    with pytest.raises(ModelLoadError, match="'cpu'"):
        check_device("cuda", "cpu")


@pytest.mark.skipif(importlib.util.find_spec("vllm") is not None, reason="vllm is installed")
def test_a_missing_vllm_names_its_extra():
    from marc_core.models.vllm_engine import VllmEngine

    with pytest.raises(ModelLoadError, match=r"marc-video\[vllm\]"):
        VllmEngine(StudentConfig(device="cpu"))


def test_only_the_given_ids_keep_their_logits():
    logits = torch.tensor([1.0, 2.0, 3.0])
    keep_only(logits, [])
    assert logits.tolist() == [1.0, 2.0, 3.0]
    keep_only(logits, [2, 0])
    assert logits.tolist() == [1.0, -torch.inf, 3.0]


def test_tensors_become_a_directory_of_the_stored_names(student_config, tmp_path):
    from marc_core.models.loading import load_model

    config = student_config()
    files = StudentFiles(config)
    model, _, _ = load_model(config)
    state = {n: t + 1 if "visual." not in n else t for n, t in model.state_dict().items()}
    found = weights_directory(state, directory=files.directory, scratch=tmp_path, tied=True)
    (stored,) = files.directory.glob("*.safetensors")
    old, new = load_file(stored), load_file(found / "model.safetensors")
    assert set(new) == {n for n in old if "visual." not in n}
    for name, tensor in new.items():
        torch.testing.assert_close(tensor, old[name] + 1)
    same = weights_directory(
        files.directory, directory=files.directory, scratch=tmp_path, tied=True
    )
    assert same == files.directory


def test_wrong_tensors_are_refused_before_vllm_reads_them(student_config, tmp_path):
    files = StudentFiles(student_config())
    (stored,) = files.directory.glob("*.safetensors")
    tensors = load_file(stored)
    name = next(n for n in tensors if "mlp.up_proj" in n)
    tower = next(n for n in tensors if "visual." in n)
    wrong = {
        "every tensor": {n: t for n, t in tensors.items() if n != name},
        "shapes": tensors | {name: tensors[name][:1]},
        "vision tower": tensors | {tower: tensors[tower] + 1},
    }
    for match, weights in wrong.items():
        with pytest.raises(ModelLoadError, match=match):
            weights_directory(weights, directory=files.directory, scratch=tmp_path, tied=True)
    assert not list(tmp_path.iterdir())


def test_a_closed_loop_takes_no_work():
    loop = LoopThread("test")

    async def answer():
        return 7

    assert loop.submit(answer()).result() == 7
    loop.close()
    with pytest.raises(EngineError, match="closed"):
        loop.submit(answer())
    loop.call_soon(lambda: None)
