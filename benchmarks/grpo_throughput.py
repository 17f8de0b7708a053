"""Answers a second of our loop against TRL's GRPOTrainer: the same language model, one process.

    python -m benchmarks.grpo_throughput [--steps N] [--questions Q]

The tiny preset's language model answers questions of the world without a video; TRL trains the same
weights as a Qwen2 model. Both draw G = 8 answers to each question, score them alike, take one step
of AdamW, and draw with the new weights: no overlap, no teacher, no KL anchor, float32, one thread.
CPU seconds, first step left out.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import tempfile
import time
from statistics import fmean, median
from typing import Any

import torch

from benchmarks.clips import hardware
from marc_core.config import MethodConfig, load_config
from marc_core.models.answering import answer_all
from marc_core.models.engine import GenerationRequest
from marc_core.models.loading import load_model
from marc_core.models.policy import Policy, freeze_vision
from marc_core.models.prompt import chat_text
from marc_core.models.student_files import StudentFiles
from marc_core.models.transformers_engine import TransformersEngine
from marc_core.question import Sampling
from marc_core.rl.config import CGrpoConfig, LossConfig, OptimizerConfig, RolloutConfig
from marc_core.rl.group import make_group
from marc_core.rl.guard import Guard
from marc_core.rl.judging import Verdict
from marc_core.rl.update import make_optimizer, train_step
from marc_core.world import WorldConfig, make_questions, sample_video

ANSWERS, LONGEST, RATE = 8, 16, 1e-6
METHOD = load_config(MethodConfig, preset="tiny")


def questions(count: int) -> list[str]:
    """Return texts of world questions."""
    found: list[str] = []
    seed = 0
    while len(found) < count:
        found += [q.text for q in make_questions(sample_video(seed, WorldConfig()), seed=0)]
        seed += 1
    return found[:count]


def worth(ids: Any) -> float:
    """Return an answer's reward: any rule will do that gives groups a spread."""
    return float(len(ids) + sum(int(i) for i in ids) % 7)


def ours(texts: list[str], per_step: int) -> tuple[list[float], float]:
    """Return (CPU seconds of each step, mean tokens of an answer)."""
    student = dataclasses.replace(METHOD.student, device="cpu", dtype="float32")
    config = CGrpoConfig(
        steps=1000,
        loss=LossConfig(kl=0.0, advantage="group"),
        rollout=RolloutConfig(questions=per_step, answers=ANSWERS, max_tokens=LONGEST),
        optimizer=OptimizerConfig(kind="adamw", learning_rate=RATE),
    )
    files = StudentFiles(student)
    model, _, _ = load_model(student)
    freeze_vision(model)
    policy = Policy(model, files.adapter, pad_id=files.tokenizer.pad_token_id)
    optimizer, guard = make_optimizer(policy, config), Guard(config.guard)
    seconds, lengths = [], []
    with TransformersEngine(student) as engine:
        for step, at in enumerate(range(0, len(texts), per_step)):
            started = time.process_time()
            requests = [
                GenerationRequest(
                    id=f"{step}/{i}",
                    evidence=files.evidence(text, None),
                    sampling=Sampling(n=ANSWERS, temperature=1.0, max_tokens=LONGEST, seed=at + i),
                )
                for i, text in enumerate(texts[at : at + per_step])
            ]
            done = answer_all(engine, requests)
            groups = []
            for i, request in enumerate(requests):
                own = done[i * ANSWERS : (i + 1) * ANSWERS]
                scores = tuple(worth(c.token_ids) for c in own)
                none = (False,) * ANSWERS
                verdict = Verdict(scores=scores, right=none, bonus=(0.0,) * ANSWERS)
                groups.append(make_group(request.id, request.evidence, own, verdict))
            train_step(policy, optimizer, groups, config, step=step, guard=guard)
            weights = {n: p for n, p in model.named_parameters() if "visual." not in n}
            _load(engine, weights, step + 1)
            seconds.append(time.process_time() - started)
            lengths += [len(c.token_ids) for c in done]
    return seconds, fmean(lengths)


def _load(engine: TransformersEngine, weights: dict[str, torch.Tensor], version: int) -> None:
    import asyncio

    asyncio.run(engine.load_weights(weights, version))


def trl(texts: list[str], per_step: int) -> tuple[list[float], float]:
    """Return the same of TRL's trainer."""
    from datasets import Dataset
    from transformers import PrinterCallback, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    files = StudentFiles(METHOD.student)
    seconds: list[float] = []
    lengths: list[int] = []

    class Clock(TrainerCallback):
        def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
            self.started = time.process_time()

        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            seconds.append(time.process_time() - self.started)

    def reward(completion_ids: list[list[int]], **_: Any) -> list[float]:
        lengths.extend(map(len, completion_ids))
        return [worth(ids) for ids in completion_ids]

    prompts = [chat_text(files.tokenizer, text, with_video=False) for text in texts]
    with tempfile.TemporaryDirectory() as folder:
        trainer = GRPOTrainer(
            model=qwen2(),
            reward_funcs=reward,
            args=GRPOConfig(
                output_dir=folder, per_device_train_batch_size=per_step * ANSWERS,
                num_generations=ANSWERS, max_completion_length=LONGEST, beta=0.0,
                steps_per_generation=1, gradient_accumulation_steps=1, num_train_epochs=1,
                learning_rate=RATE, bf16=False, use_cpu=True, report_to=[], save_strategy="no",
                logging_strategy="no", disable_tqdm=True, temperature=1.0, loss_type="grpo",
                shuffle_dataset=False, gradient_checkpointing=False,
            ),
            train_dataset=Dataset.from_dict({"prompt": prompts}),
            processing_class=files.tokenizer,
            callbacks=[Clock()],
        )  # fmt: skip
        trainer.remove_callback(PrinterCallback)  # standard output is for the result
        trainer.train()
    return seconds, fmean(lengths)


def qwen2() -> Any:
    """Return the student's language model as a plain Qwen2: on text alone they are the same."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    student, _, _ = load_model(dataclasses.replace(METHOD.student, device="cpu", dtype="float32"))
    text = student.config.get_text_config()
    names = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers",
             "num_attention_heads", "num_key_value_heads", "rms_norm_eps", "eos_token_id",
             "pad_token_id", "max_position_embeddings")  # fmt: skip
    rope = {"rope_type": "default", "rope_theta": text.rope_parameters["rope_theta"]}
    config = Qwen2Config(
        **{n: getattr(text, n) for n in names}, rope_parameters=rope, tie_word_embeddings=True
    )
    model = Qwen2ForCausalLM(config)
    weights = {f"model.{n}": p for n, p in student.model.language_model.state_dict().items()}
    missing, unexpected = model.load_state_dict(weights, strict=False)
    assert not unexpected
    assert set(missing) <= {"lm_head.weight"}
    model.tie_weights()
    with torch.no_grad():
        ids = torch.arange(20, 40)[None]
        mine, other = student(input_ids=ids).logits, model(input_ids=ids).logits
    assert torch.allclose(mine, other, atol=1e-3), "not the same language model"
    return model


def measure(run: Any, texts: list[str], per_step: int) -> dict[str, float]:
    seconds, length = run(texts, per_step)
    step_s = median(seconds[1:])
    return {
        "cpu_seconds_a_step": round(step_s, 4),
        "answers_a_cpu_second": round(per_step * ANSWERS / step_s, 1),
        "tokens_of_an_answer": round(length, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=9)
    parser.add_argument("--questions", type=int, default=8)
    args = parser.parse_args()
    torch.set_num_threads(1)
    texts = questions(args.steps * args.questions)
    found = {
        name: measure(run, texts, args.questions) for name, run in (("ours", ours), ("trl", trl))
    }
    ratio = found["ours"]["answers_a_cpu_second"] / found["trl"]["answers_a_cpu_second"]
    report = {
        "hardware": hardware(), "answers_to_a_question": ANSWERS, "longest": LONGEST,
        "questions_a_step": args.questions, **found, "ours_against_trl": round(ratio, 2),
    }  # fmt: skip
    sys.stdout.write(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
