"""openlathe, through its offline API."""

from __future__ import annotations

from openlathe import LLM, SamplingParams

from ..paths import checkpoint
from ..worker import BATCH, KV_BYTES, MAX_LENGTH, main


class Ours:
    def __init__(self, model: str, weights: str) -> None:
        self.llm = LLM(
            str(checkpoint(model)),
            kv_cache_memory_bytes=KV_BYTES,
            max_num_seqs=BATCH,
            max_model_len=MAX_LENGTH,
            quantization=None if weights == "bf16" else weights,
        )

    def generate(self, prompts: list[list[int]], new_tokens: int) -> None:
        sampling = SamplingParams(temperature=0, max_tokens=new_tokens, ignore_eos=True)
        outputs = self.llm.generate(prompts, sampling, use_tqdm=False)
        assert all(len(output.outputs[0].token_ids) == new_tokens for output in outputs)


if __name__ == "__main__":
    main(Ours)
