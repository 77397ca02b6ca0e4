"""What chat completions and completions have in common: one envelope for chunks and answers, and the usage in it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Generic, Protocol, TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from ..engine.messages import TokenLogprobs
from ..frontend.choice import Delta
from ..frontend.tokenize import Tokenizer
from ..spi.errors import InvalidRequest
from .body import encoder
from .job import Job, Tick
from .requests import GenerationRequest
from .responses import ChatChoice, Completion, CompletionChoice, PromptLogprob, PromptLogprobs, Usage
from .sse import Dialect

#: Stands for a log-probability of minus infinity, which JSON cannot express.
FLOOR = -9999.0
C = TypeVar("C", ChatChoice, CompletionChoice)
Choice = TypeVar("Choice", ChatChoice, CompletionChoice, covariant=True)


class ChoiceWriter(Protocol[Choice]):
    """Says one choice. Log-probabilities and ids wait for the next chunk that has something to say."""

    def write(self, delta: Delta) -> Iterable[Choice]:
        """What a stream says of ``delta``."""

    def whole(self, delta: Delta) -> Choice:
        """What an answer says of all deltas taken together."""


def token_names(tokenizer: Tokenizer, body: GenerationRequest) -> Callable[[int], str]:
    """How log-probabilities name tokens: by their text, which several may share, or by their ids."""
    return "token_id:{}".format if body.return_tokens_as_token_ids else tokenizer.token_text


def prompt_logprobs(tokenizer: Tokenizer, positions: Sequence[TokenLogprobs]) -> PromptLogprobs:
    """The positions from the prompt's second on, behind the first one, of which nothing is known."""
    return [None, *(_by_token(tokenizer, position) for position in positions)]


def _by_token(tokenizer: Tokenizer, position: TokenLogprobs) -> dict[int, PromptLogprob]:
    ranks = (position.rank, *range(1, len(position.token_ids)))
    rows = zip(position.token_ids, position.logprobs, ranks, strict=True)
    return {
        id: PromptLogprob(logprob=max(value, FLOOR), rank=rank, decoded_token=tokenizer.token_text(id))
        for id, value, rank in rows
    }


class OpenAIDialect(Dialect, Generic[C]):
    """Deltas as chunks, or as one answer; ``chunk`` and ``whole`` are the names of these objects."""

    def __init__(
        self, job: Job, body: GenerationRequest, writers: Sequence[ChoiceWriter[C]], *, chunk: str, whole: str
    ) -> None:
        options = body.stream_options
        if options is not None and options.continuous_usage_stats and not options.include_usage:
            raise InvalidRequest(
                "continuous_usage_stats says how include_usage works; set both or neither.",
                param="stream_options.continuous_usage_stats",
            )
        self._job = job
        self._writers: Sequence[ChoiceWriter[C]] = writers
        self._chunk, self._whole = chunk, whole
        self._created = int(time.time())
        self._usage_at_end = options is not None and bool(options.include_usage)
        self._usage_always = options is not None and bool(options.continuous_usage_stats)
        self._around: tuple[bytes, bytes] | None = None

    def chunks(self, tick: Tick) -> list[Completion[C]]:
        choices = [choice for index, delta in tick for choice in self._writers[index].write(delta)]
        return [self._envelope(self._chunk, [choice], self._usage_so_far()) for choice in choices]

    def events(self, tick: Tick) -> bytes:
        """All chunks of a stream but the first differ in their choice alone, unless each tells the usage."""
        if self._around is None:
            if self._usage_always:
                return super().events(tick)
            if events := super().events(tick):
                self._around = _around(self._envelope(self._chunk, [], self._usage_so_far()))
            return events
        before, behind = self._around
        choices = [choice for index, delta in tick for choice in self._writers[index].write(delta)]
        return b"".join([part for choice in choices for part in (before, encoder.encode(choice), behind)])

    def last_chunks(self) -> list[Completion[C]]:
        return [self._envelope(self._chunk, [], self._job.usage)] if self._usage_at_end else []

    def answer(self, deltas: Sequence[Delta]) -> Completion[C]:
        choices = [writer.whole(delta) for writer, delta in zip(self._writers, deltas, strict=True)]
        return self._envelope(self._whole, choices, self._job.usage)

    def _usage_so_far(self) -> Usage | UnsetType | None:
        """Null where a chunk of its own behind the last choice will tell."""
        if self._usage_always:
            return self._job.usage
        return None if self._usage_at_end else UNSET

    def _envelope(self, name: str, choices: Sequence[C], used: Usage | UnsetType | None) -> Completion[C]:
        job = self._job
        return Completion(
            id=job.request_id, object=name, created=self._created, model=job.model, choices=choices, usage=used
        )


def _around(empty: msgspec.Struct) -> tuple[bytes, bytes]:
    """What stands before and behind the choice in an event, given the envelope of none."""
    before, choices, behind = encoder.encode(empty).partition(b'"choices":[')
    return b"data: " + before + choices, behind + b"\n\n"
