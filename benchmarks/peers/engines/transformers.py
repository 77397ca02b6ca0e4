"""transformers' ``generate``: a static batch."""

from __future__ import annotations

import torch

from ...static_batch import StaticBatch
from ..paths import checkpoint
from ..worker import THREADS, main


class Transformers(StaticBatch):
    def __init__(self, model: str, weights: str) -> None:
        torch.set_num_threads(THREADS)
        super().__init__(str(checkpoint(model)), {"bf16": torch.bfloat16}[weights])


if __name__ == "__main__":
    main(Transformers)
