"""An engine whose logits are seen: all of them, at every position of a text."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from openlathe.api import LLM, EngineConfig, Plan, Policy, SamplingParams
from openlathe.spi import OpenlatheError

if TYPE_CHECKING:
    from torch import Tensor


class SeenEngine:
    """``LLM`` for ``config``, with what its model's ``compute_logits`` answers.

    Log-probabilities of a prompt, as requests may ask for them, are made of these logits; but of a whole vocabulary
    they would come as Python's numbers, some ten thousand times the size.
    """

    def __init__(self, config: EngineConfig, policy: Policy) -> None:
        self._rows: list[Tensor] = []
        with _models_tapped(self._rows.append):
            self.llm = LLM(**config.to_dict(), policy=policy)

    def logits(self, ids: Sequence[int]) -> Tensor:
        """[T - 1, V] in the dtype of the model: what is foretold behind each of ``ids`` [T] but the last.

        Raises ``OpenlatheError`` where the model did not make each row once.
        """
        import torch

        self._rows.clear()
        asked = SamplingParams(max_tokens=1, temperature=0, prompt_logprobs=0, ignore_eos=True, detokenize=False)
        self.llm.generate({"prompt_token_ids": ids}, asked, use_tqdm=False)
        rows = torch.cat(self._rows)
        self._rows.clear()
        foretold = len(ids) - 1
        # Behind them comes the row of the generated token, unless a captured step has made it.
        if not foretold <= len(rows) <= foretold + 1:
            raise OpenlatheError(
                f"The engine made {len(rows)} rows of logits for {len(ids)} tokens; it cannot be seen."
            )
        return rows[:foretold]


@contextmanager
def _models_tapped(take: Callable[[Tensor], None]) -> Iterator[None]:
    """Whatever the models that are built inside answer with as logits goes to ``take``, too.

    An engine gets its model from ``Plan.resolve``, so that this is where it is met.
    """
    resolve = Plan.resolve

    def resolved(plan: Plan, slot: str) -> Any:
        found = resolve(plan, slot)
        return _tapped(found, take) if slot == "model" else found

    Plan.resolve = resolved  # type: ignore[method-assign,assignment]
    try:
        yield
    finally:
        Plan.resolve = resolve  # type: ignore[method-assign]


def _tapped(factory: Callable[..., Any], take: Callable[[Tensor], None]) -> Callable[..., Any]:
    def build(*args: Any, **kwargs: Any) -> Any:
        model = factory(*args, **kwargs)
        compute_logits = model.compute_logits

        def compute(hidden: Tensor) -> Tensor:
            logits: Tensor = compute_logits(hidden)
            take(logits)
            return logits

        model.compute_logits = compute
        return model

    return build
