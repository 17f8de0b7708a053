"""What vLLM's own reload of weights leaves undone, inside its worker processes.

vLLM imports this module by its name (`worker_extension_cls`) and mixes the class into its worker.
"""

from __future__ import annotations

from typing import Any


class ReloadedHead:
    """Adds a method to vLLM's worker that its engine calls by name."""

    model_runner: Any

    def marc_refresh_head(self) -> None:
        """Let an output layer that is tied to the embeddings see reloaded weights.

        On a CPU vLLM multiplies with a packed copy of each layer's weights. A reload packs the
        embeddings anew, but not the output layer that shares them (0.29.0). On a GPU nothing is
        packed and this changes nothing.
        """
        from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead

        for layer in self.model_runner.get_model().modules():
            if isinstance(layer, ParallelLMHead):
                layer.quant_method.process_weights_after_loading(layer)
