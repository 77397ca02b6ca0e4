"""The engine's log-probabilities in the shapes of the two APIs."""

from __future__ import annotations

from ..engine.messages import TokenLogprobs
from ..frontend.tokenize import Tokenizer
from .responses import ChatLogprob, CompletionLogprobs, TopLogprob

#: Stands for minus infinity, which JSON cannot express.
FLOOR = -9999.0


def chat_logprob(tokenizer: Tokenizer, position: TokenLogprobs) -> ChatLogprob:
    """One position for chat completions; the engine lists the sampled token first, then the alternatives."""
    pairs = [
        TopLogprob(token=tokenizer.token_text(id), logprob=max(value, FLOOR), bytes=list(tokenizer.token_bytes(id)))
        for id, value in zip(position.token_ids, position.logprobs, strict=True)
    ]
    sampled = pairs[0]
    return ChatLogprob(token=sampled.token, logprob=sampled.logprob, bytes=sampled.bytes, top_logprobs=pairs[1:])


class CompletionLogprobsBuilder:
    """Log-probabilities for completions, whose offsets count characters of the choice's tokens so far."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._offset = 0

    def add(self, positions: list[TokenLogprobs], to: CompletionLogprobs) -> None:
        text = self._tokenizer.token_text
        for position in positions:
            values = [max(value, FLOOR) for value in position.logprobs]
            token = text(position.token_ids[0])
            to.tokens.append(token)
            to.token_logprobs.append(values[0])
            # two ids may share one text; the likelier is listed first and stays
            top: dict[str, float] = {}
            for id, value in sorted(zip(position.token_ids, values, strict=True), key=lambda pair: -pair[1]):
                top.setdefault(text(id), value)
            to.top_logprobs.append(top)
            to.text_offset.append(self._offset)
            self._offset += len(token)
