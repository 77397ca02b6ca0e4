"""vLLM on a CPU, through its offline API; its engine is a process of its own, as it is by default."""

from __future__ import annotations

from vllm import LLM, SamplingParams

from ..paths import checkpoint
from ..worker import BATCH, MAX_LENGTH, main


class VLLM:
    def __init__(self, model: str, weights: str) -> None:
        self.llm = LLM(
            str(checkpoint(model)), dtype={"bf16": "bfloat16"}[weights], max_num_seqs=BATCH, max_model_len=MAX_LENGTH
        )

    def generate(self, prompts: list[list[int]], new_tokens: int) -> None:
        sampling = SamplingParams(temperature=0, max_tokens=new_tokens, ignore_eos=True, detokenize=False)
        inputs = [{"prompt_token_ids": prompt} for prompt in prompts]
        outputs = self.llm.generate(inputs, sampling, use_tqdm=False)
        assert all(len(output.outputs[0].token_ids) == new_tokens for output in outputs)


if __name__ == "__main__":
    main(VLLM)
