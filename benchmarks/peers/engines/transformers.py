"""transformers' ``generate``: a static batch."""

from __future__ import annotations

import torch
import transformers

from ..paths import checkpoint
from ..worker import THREADS, main


class Transformers:
    def __init__(self, model: str, weights: str) -> None:
        torch.set_num_threads(THREADS)
        dtype = {"bf16": torch.bfloat16}[weights]
        self.model = transformers.AutoModelForCausalLM.from_pretrained(checkpoint(model), dtype=dtype).eval()

    @torch.inference_mode()
    def generate(self, prompts: list[list[int]], new_tokens: int) -> None:
        ids = torch.tensor(prompts)
        self.model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            min_new_tokens=new_tokens,
            max_new_tokens=new_tokens,
            pad_token_id=0,
        )


if __name__ == "__main__":
    main(Transformers)
