"""New weights between two steps: all or nothing, the language model only."""

from __future__ import annotations

import asyncio
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from marc_core.config import StudentConfig
from marc_core.errors import ModelLoadError
from marc_core.models.answering import answer_all
from marc_core.models.engine import Completion, GenerationRequest
from marc_core.models.transformers_engine import TransformersEngine
from marc_core.question import Sampling

FAMILIES = ["qwen2_vl", "qwen2_5_vl", "qwen3_vl"]


def trained(directory):
    """Change every language tensor of a copied checkpoint, as training does."""
    (file,) = directory.glob("*.safetensors")
    generator = torch.Generator().manual_seed(9)
    tensors = {
        name: t if "visual." in name else t + 0.1 * torch.randn(t.shape, generator=generator)
        for name, t in load_file(file).items()
    }
    save_file(tensors, file, metadata={"format": "pt"})
    return directory, tensors


def ask(engine, evidence, **sampling):
    request = GenerationRequest(id="q", evidence=evidence, sampling=Sampling(**sampling))
    return answer_all(engine, [request])[0]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("form", ["path", "stored names", "state_dict"])
def test_new_weights_answer_like_an_engine_built_on_them(
    family, form, checkpoint, student_config, make_evidence
):
    directory, tensors = trained(checkpoint(family, copy=True))
    config = student_config(family)
    evidence = make_evidence(config, groups=2)
    new_config = StudentConfig(model=str(directory), device="cpu", max_new_tokens=8)
    with TransformersEngine(new_config) as engine:
        state = {n: t.clone() for n, t in engine.model.state_dict().items()}
        # the tower is unchanged, but this config's pixel limit gives it another name
        engine.files.__dict__["vision_fingerprint"] = evidence.vision_fingerprint
        expected = ask(engine, evidence)
    weights = {"path": directory, "stored names": tensors, "state_dict": state}[form]
    with TransformersEngine(config) as engine:
        before = ask(engine, evidence)
        asyncio.run(engine.load_weights(weights, 3))
        after = ask(engine, evidence)
    assert (before.weights_version, after.weights_version) == (0, 3)
    assert after.token_ids == expected.token_ids
    torch.testing.assert_close(torch.tensor(after.log_probs), torch.tensor(expected.log_probs))
    assert before.log_probs != after.log_probs


def test_wrong_weights_change_nothing(checkpoint, student_config, make_evidence):
    directory, tensors = trained(checkpoint("qwen2_5_vl", copy=True))
    config = student_config()
    evidence = make_evidence(config)
    name = next(n for n in tensors if "mlp.up_proj" in n)
    tower = next(n for n in tensors if "visual." in n)
    wrong = {
        "every tensor": {n: t for n, t in tensors.items() if n != name},
        "shapes": tensors | {name: tensors[name][:2]},
        "vision tower": tensors | {tower: tensors[tower] + 1},
    }
    with TransformersEngine(config) as engine:
        before = ask(engine, evidence)
        for match, weights in wrong.items():
            with pytest.raises(ModelLoadError, match=match):
                asyncio.run(engine.load_weights(weights, 1))
        (file,) = directory.glob("*.safetensors")
        save_file(tensors | {tower: tensors[tower] + 1}, file)
        with pytest.raises(ModelLoadError, match="vision tower"):
            asyncio.run(engine.load_weights(directory, 1))
        after = ask(engine, evidence)
    assert after.log_probs == before.log_probs
    assert after.weights_version == 0


def test_samples_under_way_go_on_with_new_weights(checkpoint, student_config, make_evidence):
    directory, _ = trained(checkpoint("qwen2_5_vl", copy=True))
    config = student_config()
    evidence = make_evidence(config)

    async def main(engine):
        request = GenerationRequest(
            id="q", evidence=evidence, sampling=Sampling(max_tokens=60, temperature=1.0, seed=1)
        )
        loaded = False
        async for item in engine.generate([request]):
            if not loaded:
                await engine.load_weights(directory, 2)
                loaded = True
            if isinstance(item, Completion):
                return item
        return None

    with TransformersEngine(config) as engine:
        engine._decoder.end_ids = ()
        done = asyncio.run(main(engine))
    assert len(done.token_ids) == 60
    assert done.weights_version == 0  # drew the first token


def test_an_adapter_without_peft_is_refused(student_config, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)  # as where it is not installed
    with (
        TransformersEngine(student_config()) as engine,
        pytest.raises(ModelLoadError, match="peft"),
    ):
        asyncio.run(engine.load_weights(tmp_path, 1, lora=True))


@pytest.mark.filterwarnings("ignore::FutureWarning")  # peft on transformers 5.23
def test_an_adapter_changes_answers_and_another_replaces_it(
    student_config, make_evidence, tmp_path
):
    import peft

    config = student_config()
    evidence = make_evidence(config)
    with TransformersEngine(config) as engine:
        plain = ask(engine, evidence)
        found = []
        for seed in (1, 2, 1):
            asyncio.run(engine.load_weights(_adapter(peft, config, tmp_path, seed), 1, lora=True))
            found.append(ask(engine, evidence).log_probs)
    assert found[0] == found[2]
    assert len({plain.log_probs, *found}) == 3


def _adapter(peft, config, folder, seed):
    from transformers import AutoModelForImageTextToText

    model = AutoModelForImageTextToText.from_pretrained(config.model)
    settings = peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"])
    model = peft.get_peft_model(model, settings)
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data = torch.randn(parameter.shape, generator=generator)
    model.save_pretrained(folder / str(seed))
    return folder / str(seed)
