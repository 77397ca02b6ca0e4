"""transformers' ``generate``: a static batch, greedy, with its default cache and attention."""

from __future__ import annotations

import torch
import transformers
from transformers.generation.streamers import BaseStreamer


class StaticBatch:
    def __init__(self, path: str, dtype: torch.dtype = torch.bfloat16) -> None:
        self.model = transformers.AutoModelForCausalLM.from_pretrained(path, dtype=dtype).eval()

    @torch.inference_mode()
    def generate(self, prompts: list[list[int]], new_tokens: int, streamer: BaseStreamer | None = None) -> None:
        """Exactly ``new_tokens`` behind each of the prompts, which are of one length."""
        ids = torch.tensor(prompts)
        self.model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            min_new_tokens=new_tokens,
            max_new_tokens=new_tokens,
            streamer=streamer,
            pad_token_id=0,
        )
