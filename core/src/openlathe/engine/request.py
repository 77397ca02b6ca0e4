"""A request as the scheduler sees it: tokens wanted, tokens computed, and the blocks that hold them."""

from __future__ import annotations

from enum import Enum

from .messages import EngineRequest, FinishReason


class Status(Enum):
    WAITING = "waiting"
    RUNNING = "running"
    FINISHED = "finished"


class Request:
    """The one source of truth about a sequence.

    ``token_ids`` are the prompt and every accepted token; ``num_computed_tokens`` of them have their keys and values
    in the cache. ``num_stored_tokens`` came from the prefix cache: on a full hit the last of them is computed again
    for its logits, but not stored again. ``num_cached_tokens`` is what the cache spared it when it was first let in.
    ``block_ids`` is one block table per KV group, ``block_keys`` the chain of
    keys of its full blocks.
    """

    def __init__(self, source: EngineRequest, *, seed: int, order: tuple[int, int], num_groups: int) -> None:
        self.source = source
        self.sampling = source.sampling
        self.seed = seed
        self.order = order
        self.status = Status.WAITING
        self.token_ids = list(source.prompt_token_ids)
        self.num_prompt_tokens = len(self.token_ids)
        self.stop_token_ids = frozenset(source.sampling.stop_token_ids) | (
            frozenset() if source.sampling.ignore_eos else frozenset(source.eos_token_ids)
        )
        self.num_computed_tokens = 0
        self.num_stored_tokens = 0
        self.num_cached_tokens: int | None = None
        self.num_published_blocks = 0
        self.block_ids: list[list[int]] = [[] for _ in range(num_groups)]
        self.block_keys: list[bytes] = []

    @property
    def id(self) -> str:
        return self.source.request_id

    @property
    def num_tokens(self) -> int:
        return len(self.token_ids)

    @property
    def num_missing_tokens(self) -> int:
        """How far the computed tokens are behind the wanted ones."""
        return len(self.token_ids) - self.num_computed_tokens

    @property
    def num_output_tokens(self) -> int:
        return len(self.token_ids) - self.num_prompt_tokens

    def finish_reason(self, token: int, max_model_len: int) -> FinishReason | None:
        """Whether ``token``, just appended, ends the request."""
        if token in self.stop_token_ids and self.num_output_tokens > self.sampling.min_tokens:
            return "stop"
        limit = self.sampling.max_tokens
        if (limit is not None and self.num_output_tokens >= limit) or self.num_tokens >= max_model_len:
            return "length"
        return None
