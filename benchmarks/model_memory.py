"""Memory that a student of real size takes, to index a clip of 10 s and to answer a question.

    python -m benchmarks.model_memory [--directory DIR] [--pixels 100352]

Random weights of the true Qwen2.5-VL-3B shape (tied embeddings, the tiny preset's tokenizer) are
written shard by shard, 7.5 GB. Then `marc index` and `marc ask` run as a user runs them; the
proportional memory (PSS, shared pages counted once) of all their processes is sampled twice a
second. What is reported is the highest sample, and the highest of any one process.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from benchmarks.clips import hardware
from benchmarks.processes import Sampled, descendants, pss_bytes
from marc_core.config import PRESETS_DIR
from marc_core.world import WorldConfig, sample_video, write_mp4

SHARD_BYTES = 1024**3
LIMITS = {"index": 6.0, "ask": 9.0}
"""GB that all processes together may take."""
TEXT = {
    "hidden_size": 2048, "intermediate_size": 11008, "num_hidden_layers": 36,
    "num_attention_heads": 16, "num_key_value_heads": 2, "vocab_size": 151936,
    "max_position_embeddings": 128000, "tie_word_embeddings": True, "eos_token_id": 3,
    "bos_token_id": None, "pad_token_id": 0,
    "rope_parameters": {
        "rope_type": "default", "mrope_section": [16, 24, 24], "rope_theta": 1000000.0,
    },
}  # fmt: skip
VISION = {
    "hidden_size": 1280, "intermediate_size": 3420, "depth": 32, "num_heads": 16,
    "out_hidden_size": 2048, "patch_size": 14, "temporal_patch_size": 2, "spatial_merge_size": 2,
    "window_size": 112, "fullatt_block_indexes": [7, 15, 23, 31], "tokens_per_second": 2,
}  # fmt: skip


def write_checkpoint(directory: Path, *, layers: int = TEXT["num_hidden_layers"]) -> int:
    """Write the checkpoint without ever holding more than a shard; return its parameters.

    layers: of the language model.
    """
    from transformers import AutoModelForImageTextToText, Qwen2_5_VLConfig

    tiny = PRESETS_DIR / "tiny" / "student"
    ids = json.loads((tiny / "config.json").read_text())
    names = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")
    config = Qwen2_5_VLConfig(
        text_config=TEXT | {"num_hidden_layers": layers},
        vision_config=VISION,
        tie_word_embeddings=True,
        dtype="bfloat16",
        **{name: ids[name] for name in names},
    )
    config.architectures = ["Qwen2_5_VLForConditionalGeneration"]
    directory.mkdir(parents=True, exist_ok=True)
    config.save_pretrained(directory)
    for file in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(tiny / file, directory / file)
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(config)
    parameters = {n: tuple(p.shape) for n, p in model.named_parameters()}
    generator, shard, where = torch.Generator().manual_seed(0), {}, {}
    for name, shape in parameters.items():
        shard[name] = _drawn(name, shape, generator)
        if sum(t.nbytes for t in shard.values()) > SHARD_BYTES:
            _write_shard(directory, shard, where)
    _write_shard(directory, shard, where)
    index = {"metadata": {}, "weight_map": where}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))
    return sum(torch.Size(shape).numel() for shape in parameters.values())


def _drawn(name: str, shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    """Return what training starts from: norms of 1, biases of 0, matrices of normal numbers."""
    empty = torch.empty(shape, dtype=torch.bfloat16)
    if len(shape) == 1:
        return empty.fill_(0.0 if name.endswith("bias") else 1.0)
    return empty.normal_(std=0.02, generator=generator)


def _write_shard(directory: Path, shard: dict[str, torch.Tensor], where: dict[str, str]) -> None:
    file = f"model-{len(set(where.values())):05}.safetensors"
    save_file(shard, directory / file, metadata={"format": "pt"})
    where.update(dict.fromkeys(shard, file))
    shard.clear()


class PeakMemory(Sampled):
    """The highest PSS of all processes below this one, together and by kind."""

    def __init__(self) -> None:
        self.together, self.highest = 0, {}

    def look(self) -> None:
        """Take one sample."""
        sizes: dict[str, int] = {}
        for pid, line in list(descendants().items())[1:]:
            kind = _kind(line)
            sizes[kind] = max(sizes.get(kind, 0), 0) + pss_bytes(pid)
        self.together = max(self.together, sum(sizes.values()))
        for kind, size in sizes.items():
            self.highest[kind] = max(self.highest.get(kind, 0), size)


def _kind(line: str) -> str:
    for name in ("DecodeStage", "EncodeStage", "Writer", "raylet", "gcs_server"):
        if name in line:
            return name
    return "other workers" if line.startswith("ray::") else "command"


def measure(arguments: list[str]) -> dict[str, Any]:
    """Run a `marc` command and return its peaks in GB and its seconds."""
    started, peak = time.monotonic(), PeakMemory()
    with peak:
        done = subprocess.run(
            [sys.executable, "-m", "jobs.cli", *arguments],
            stdout=subprocess.PIPE,
            check=True,
            text=True,
        )
    sys.stderr.write(done.stdout[-500:])
    gb = {kind: round(size / 1e9, 2) for kind, size in sorted(peak.highest.items())}
    return {
        "all_processes_gb": round(peak.together / 1e9, 2),
        "by_kind_gb": gb,
        "seconds": round(time.monotonic() - started, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--directory", type=Path, help="keep the checkpoint here for other runs")
    parser.add_argument("--pixels", type=int, default=128 * 28 * 28, help="of a frame")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        checkpoint = options.directory or root / "student"
        if not (checkpoint / "model.safetensors.index.json").is_file():
            write_checkpoint(checkpoint)
        weights = sum(f.stat().st_size for f in checkpoint.glob("*.safetensors"))
        world = WorldConfig(min_scenes=3, max_scenes=3, scene_lengths_s=(3.4,))
        write_mp4(sample_video(1, world), root / "clip.mp4")
        settings = [f"student.model={checkpoint}", f"student.frame_max_pixels={options.pixels}",
                    "--memory", str(root / "memory")]  # fmt: skip
        found = {
            "index": measure(["index", str(root / "clip.mp4"), *settings]),
            "ask": measure(
                [
                    "ask",
                    "What is red?",
                    "student.max_new_tokens=4",
                    "--memory",
                    str(root / "memory"),
                ]
            ),
        }
    result = {
        "hardware": hardware(),
        "checkpoint_gb": round(weights / 1e9, 2),
        "frame_pixels": options.pixels,
        "limits_gb": LIMITS,
        **found,
        "within_limits": all(found[k]["all_processes_gb"] <= v for k, v in LIMITS.items()),
    }
    sys.stdout.write(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
