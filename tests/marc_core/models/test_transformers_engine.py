"""The engine's own step loop equals the library's `generate`, and keeps its promises on the way."""

from __future__ import annotations

import asyncio
import dataclasses

import pytest
import torch
from transformers import GenerationConfig

from marc_core.errors import AnswerError, EngineError
from marc_core.models.answering import answer_all
from marc_core.models.engine import Completion, Delta, GenerationRequest
from marc_core.models.inputs import collate
from marc_core.models.transformers_engine import TransformersEngine
from marc_core.question import Sampling

FAMILIES = ["qwen2_vl", "qwen2_5_vl", "qwen3_vl"]
PROMPTS = ["what is red ?", "a ?", "what is the letter of the right option ?", "is the A blue ?"]
SHAPES = [{"groups": 3}, {"groups": 0}, {"groups": 1, "size": (32, 16)}, {"groups": 2}]


def requests_of(evidences, prefix="r", **sampling):
    return [
        GenerationRequest(id=f"{prefix}{i}", evidence=e, sampling=Sampling(**sampling))
        for i, e in enumerate(evidences)
    ]


def plain(engine, evidence, most):
    """Greedy ids of the stock `model.generate` for one prompt."""
    inputs = collate(
        [evidence], engine.files.adapter, pad_id=0, device=engine.device, dtype=engine.dtype
    )
    settings = GenerationConfig(
        max_new_tokens=most,
        do_sample=False,
        eos_token_id=list(engine._end_ids),
        pad_token_id=0,
        suppress_tokens=list(engine._suppressed),
    )
    with torch.no_grad():
        ids = engine.model.generate(**inputs, generation_config=settings)
    return tuple(ids[0, inputs["input_ids"].shape[1] :].tolist())


@pytest.fixture(scope="module")
def engines(student_config):
    made = {}

    def get(family="qwen2_5_vl"):
        if family not in made:
            made[family] = TransformersEngine(student_config(family))
        return made[family]

    yield get
    for engine in made.values():
        engine.close()


def evidences_of(engine, make_evidence):
    return [
        make_evidence(engine.config, text, seed=i, **shape)
        for i, (text, shape) in enumerate(zip(PROMPTS, SHAPES, strict=True))
    ]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_ragged_greedy_batch_equals_generate(family, engines, make_evidence):
    engine = engines(family)
    evidences = evidences_of(engine, make_evidence)
    together = answer_all(engine, requests_of(evidences, max_tokens=12))
    assert [c.token_ids for c in together] == [plain(engine, e, 12) for e in evidences]
    alone = [answer_all(engine, requests_of([e], max_tokens=12))[0] for e in evidences]
    assert [c.token_ids for c in alone] == [c.token_ids for c in together]
    for one, both in zip(alone, together, strict=True):
        torch.testing.assert_close(
            torch.tensor(one.log_probs), torch.tensor(both.log_probs), rtol=1e-4, atol=1e-4
        )
    assert [c.visual_tokens for c in together] == [e.num_tokens for e in evidences]


@pytest.mark.parametrize("family", FAMILIES)
def test_requests_that_join_under_way_equal_generate(family, engines, make_evidence):
    """One by one, each when the one before has given its second token."""
    engine = engines(family)
    evidences = evidences_of(engine, make_evidence)

    async def ask(request, go, ready):
        await go.wait()
        seen, done = 0, None
        async for item in engine.generate([request]):
            seen += isinstance(item, Delta)
            if seen == 2:
                ready.set()
            if isinstance(item, Completion):
                done = item
        ready.set()
        return done

    async def main():
        events = [asyncio.Event() for _ in range(len(evidences) + 1)]
        events[0].set()
        return await asyncio.gather(
            *(
                ask(r, events[i], events[i + 1])
                for i, r in enumerate(requests_of(evidences, max_tokens=24))
            )
        )

    answers = asyncio.run(main())
    assert [c.token_ids for c in answers] == [plain(engine, e, 24) for e in evidences]


@pytest.mark.parametrize("family", FAMILIES)
def test_deltas_join_to_the_completion(family, engines, make_evidence):
    engine = engines(family)
    evidences = evidences_of(engine, make_evidence)

    async def main():
        return [i async for i in engine.generate(requests_of(evidences, n=2, temperature=1.2))]

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
        assert len(done.log_probs) == len(done.token_ids)
        last = done.token_ids[-1] in engine._end_ids
        assert done.finish_reason == ("stop" if last else "length")


def test_samples_share_one_prefill(engines, make_evidence, monkeypatch):
    engine = engines()
    evidence = make_evidence(engine.config, groups=2)
    calls = []
    forward = engine._decoder.model.forward

    def counted(*args, **kwargs):
        calls.append(kwargs["input_ids"].shape)
        return forward(*args, **kwargs)

    monkeypatch.setattr(engine._decoder.model, "forward", counted)
    done = answer_all(engine, requests_of([evidence], n=5, temperature=1.0, max_tokens=3, seed=1))
    assert [c.index for c in done] == [0, 1, 2, 3, 4]
    assert calls[0][0] == 1
    assert len({c.token_ids for c in done}) > 1


def test_a_seed_repeats_samples_whatever_they_are_batched_with(engines, make_evidence):
    engine = engines()
    evidence, other = (make_evidence(engine.config, seed=i) for i in (1, 2))

    def draw(seed, *, crowd=False, n=3):
        own = GenerationRequest(
            id="own",
            evidence=evidence,
            sampling=Sampling(temperature=1.3, seed=seed, n=n, max_tokens=6),
        )
        rest = requests_of([other] * 3, temperature=0.9) if crowd else []
        return [c.token_ids for c in answer_all(engine, [*rest, own]) if c.request_id == "own"]

    assert draw(3) == draw(3, crowd=True)
    assert draw(3) != draw(4)
    assert draw(3, n=1) == draw(3)[:1]
    assert draw(None, n=8) != draw(None, n=8)


def test_samples_follow_the_recorded_distribution(engines, make_evidence):
    """Frequencies of 4,000 first tokens against exp(log_probs)."""
    engine = engines()
    evidence = make_evidence(engine.config, choices=("a", "the letter", "right option"))
    done = answer_all(
        engine, requests_of([evidence], n=4000, temperature=2.0, max_tokens=1, seed=5)
    )
    probability = {c.token_ids[0]: torch.tensor(c.log_probs[0]).exp().item() for c in done}
    assert abs(sum(probability.values()) - 1) < 1e-4
    for token, expected in probability.items():
        found = sum(c.token_ids[0] == token for c in done) / len(done)
        assert abs(found - expected) < 4 * (expected * (1 - expected) / len(done)) ** 0.5 + 1e-3


def test_an_answer_is_one_of_its_choices(engines, make_evidence):
    engine = engines()
    choices = ("the letter", "the right option", "a")
    free = make_evidence(engine.config, seed=1)
    chosen = make_evidence(engine.config, seed=2, choices=choices)
    first, second = answer_all(engine, requests_of([free, chosen]))
    assert first.token_ids == plain(engine, free, 8)
    assert second.text in choices
    assert second.finish_reason == "stop"
    assert len(second.sampling.choice_ids) == 3
    many = answer_all(engine, requests_of([chosen], n=32, temperature=100.0, seed=0))
    assert {c.text for c in many} == set(choices)
    for done in many:
        assert done.token_ids in done.sampling.choice_ids


def test_visual_tokens_are_never_drawn(engines, make_evidence):
    engine = engines()
    evidence = make_evidence(engine.config)
    done = answer_all(engine, requests_of([evidence], n=64, temperature=100.0, seed=0))
    drawn = {t for c in done for t in c.token_ids}
    assert not set(engine._suppressed) & drawn
    assert set(done[0].sampling.suppressed_ids) == set(engine._suppressed)


def test_stop_texts_end_an_answer_and_are_not_part_of_it(engines, make_evidence):
    engine = engines()
    evidences = [make_evidence(engine.config, seed=seed) for seed in range(12)]
    answers = answer_all(engine, requests_of(evidences, max_tokens=8))
    whole = max(answers, key=lambda c: len(set(c.text.split())))
    evidence, words = evidences[int(whole.request_id[1:])], whole.text.split()
    assert len(words) >= 5, "the tiny model says several words"
    stop = f"{words[2]} {words[3]}"
    first = whole.text.index(stop)

    async def main():
        request = requests_of([evidence], max_tokens=8, stop=(stop, "never said"))
        return [i async for i in engine.generate(request)]

    *deltas, done = asyncio.run(main())
    assert done.text == whole.text[:first].rstrip() == "".join(d.text for d in deltas)
    assert done.finish_reason == "stop"
    assert len(done.token_ids) < len(whole.token_ids)


def test_an_aborted_row_is_free_within_one_step(engines, make_evidence):
    engine = engines()
    evidences = [make_evidence(engine.config, seed=i) for i in range(2)]

    async def main():
        long, short = (
            GenerationRequest(
                id=name, evidence=e, sampling=Sampling(max_tokens=most, temperature=1.0)
            )
            for name, e, most in zip("ab", evidences, (400, 400), strict=True)
        )
        engine._decoder.end_ids = ()  # neither ends by itself
        after = None
        async for item in engine.generate([long, short]):
            if isinstance(item, Completion):
                assert (item.request_id, item.finish_reason) == ("a", "abort")
                after = 0
                await engine.abort("b")
                assert sum(len(b.rows) for b in engine._batches) == 0
                break
            if item.request_id == "a" and len(item.token_ids) and after is None:
                after = 1
                await engine.abort("a")
                assert [r.request_id for b in engine._batches for r in b.rows] == ["b"]

    ends = engine._end_ids
    try:
        asyncio.run(main())
    finally:
        engine._decoder.end_ids = ends
    assert not engine._calls


def test_a_reader_that_leaves_takes_its_requests_back(engines, make_evidence):
    engine = engines()
    evidence = make_evidence(engine.config)

    async def main():
        stream = engine.generate(requests_of([evidence], n=4, max_tokens=5000, temperature=1.0))
        await anext(stream)
        await stream.aclose()
        await engine.health()
        return sum(len(b.rows) for b in engine._batches)

    assert asyncio.run(main()) == 0


def test_waiting_requests_can_be_aborted(student_config, make_evidence):
    config = student_config()
    evidence = make_evidence(config)
    with TransformersEngine(config, max_rows=1) as engine:
        engine._decoder.end_ids = ()

        async def main():
            found = {}
            first, second = requests_of([evidence] * 2, max_tokens=300)
            async for item in engine.generate([first, second]):
                if isinstance(item, Completion):
                    found[item.request_id] = item
                elif "r1" not in found and item.request_id == "r0":
                    await engine.abort("r1")
            return found

        found = asyncio.run(main())
    assert found["r1"].finish_reason == "abort"
    assert found["r1"].token_ids == ()
    assert found["r0"].finish_reason == "length"


@pytest.mark.parametrize("join", [True, False])
def test_more_requests_than_rows_are_all_answered(join, student_config, make_evidence):
    config = student_config()
    evidences = [make_evidence(config, seed=i, groups=1 + i % 3) for i in range(7)]
    with TransformersEngine(config, max_rows=3, join=join) as engine:
        done = answer_all(engine, requests_of(evidences, max_tokens=10))
        assert [c.token_ids for c in done] == [plain(engine, e, 10) for e in evidences]


def test_wrong_evidence_is_refused_before_anything_starts(engines, make_evidence):
    engine = engines()
    good = make_evidence(engine.config)
    wrong = {
        "tower": {"vision_fingerprint": "another"},
        r"\(N, 32\)": {"tokens_ND": good.tokens_ND[:, :16]},
        "Positions": {"positions_N3": good.positions_N3[:-1]},
        "Runs": {"runs": (dataclasses.replace(good.runs[0], num_tokens=2),)},
        "Deepstack": {"deepstack_LND": good.tokens_ND[None]},
    }
    for match, change in wrong.items():
        with pytest.raises(AnswerError, match=match):
            answer_all(engine, requests_of([dataclasses.replace(good, **change)]))
    with pytest.raises(AnswerError, match="temperature"):
        answer_all(engine, requests_of([good], temperature=-1.0))
    twice = requests_of([good]) * 2
    with pytest.raises(AnswerError, match="unique"):
        answer_all(engine, twice)
    assert not engine._calls


def test_a_crash_fails_what_waits_and_says_why(student_config, make_evidence):
    config = student_config()
    evidence = make_evidence(config)
    engine = TransformersEngine(config)

    def broken(*args, **kwargs):
        raise RuntimeError("out of memory")

    engine.model.forward = broken
    with pytest.raises(EngineError, match="out of memory"):
        answer_all(engine, requests_of([evidence]))
    with pytest.raises(EngineError, match="out of memory"):
        asyncio.run(engine.health())
    with pytest.raises(EngineError, match="out of memory"):
        answer_all(engine, requests_of([evidence]))
    engine.close()


def test_a_closed_engine_says_so(student_config, make_evidence):
    engine = TransformersEngine(student_config())
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        answer_all(engine, requests_of([make_evidence(engine.config)]))


def test_the_spec_says_what_a_token_costs(engines):
    spec = engines().spec
    assert spec.kv_bytes_per_token == 2 * 3 * 2 * 8 * 4
    assert spec.own_positions
    assert spec.fingerprint == engines().files.vision_fingerprint
