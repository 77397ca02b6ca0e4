"""OpenVINO GenAI's continuous batching, with its own default precision of the KV cache."""

from __future__ import annotations

import numpy
import openvino
import openvino_genai

from .. import paths
from ..worker import BATCH, KV_BYTES, THREADS, main


class OpenVINO:
    def __init__(self, model: str, weights: str) -> None:
        scheduler = openvino_genai.SchedulerConfig()
        scheduler.cache_size = KV_BYTES >> 30
        scheduler.max_num_seqs = BATCH
        scheduler.max_num_batched_tokens = 2048
        scheduler.enable_prefix_caching = True
        properties = {"INFERENCE_NUM_THREADS": THREADS, "INFERENCE_PRECISION_HINT": "bf16"}
        folder = str(paths.openvino(model, weights))
        self.pipeline = openvino_genai.ContinuousBatchingPipeline(folder, scheduler, "CPU", properties)

    def generate(self, prompts: list[list[int]], new_tokens: int) -> None:
        config = openvino_genai.GenerationConfig(
            max_new_tokens=new_tokens, min_new_tokens=new_tokens, ignore_eos=True, do_sample=False
        )
        inputs = [openvino.Tensor(numpy.array([prompt], dtype=numpy.int64)) for prompt in prompts]
        results = self.pipeline.generate(inputs, [config] * len(inputs))
        assert all(len(result.m_generation_ids[0]) == new_tokens for result in results)


if __name__ == "__main__":
    main(OpenVINO)
