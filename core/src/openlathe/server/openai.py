"""What chat completions and completions have in common: one envelope for chunks and answers, and the usage in it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Protocol

from msgspec import UNSET, UnsetType

from ..frontend.choice import Delta
from ..spi.errors import InvalidRequest
from .generation import Tick
from .job import Job
from .requests import GenerationRequest
from .responses import ChatChoice, Completion, CompletionChoice, Usage
from .sse import Dialect

#: Stands for a log-probability of minus infinity, which JSON cannot express.
FLOOR = -9999.0


class ChoiceWriter(Protocol):
    """Says one choice. Log-probabilities and ids wait for the next chunk that has something to say."""

    def write(self, delta: Delta) -> Iterable[ChatChoice | CompletionChoice]:
        """What a stream says of ``delta``."""

    def whole(self, delta: Delta) -> ChatChoice | CompletionChoice:
        """What an answer says of all deltas taken together."""


class OpenAIDialect(Dialect):
    """Deltas as chunks, or as one answer; ``chunk`` and ``whole`` are the names of these objects."""

    def __init__(
        self, job: Job, body: GenerationRequest, writers: Sequence[ChoiceWriter], *, chunk: str, whole: str
    ) -> None:
        options = body.stream_options
        if options is not None and not body.stream:
            raise InvalidRequest(
                "stream_options needs stream to be true; set it or leave both out.", param="stream_options"
            )
        self._job = job
        self._writers = writers
        self._chunk, self._whole = chunk, whole
        self._created = int(time.time())
        self._usage_at_end = options is not None and bool(options.include_usage)
        self._usage_always = self._usage_at_end and options is not None and bool(options.continuous_usage_stats)

    def chunks(self, tick: Tick) -> list[Completion]:
        choices = [choice for index, delta in tick for choice in self._writers[index].write(delta)]
        return [self._envelope(self._chunk, [choice], self._usage_so_far()) for choice in choices]

    def last_chunks(self) -> list[Completion]:
        return [self._envelope(self._chunk, [], self._job.usage)] if self._usage_at_end else []

    def answer(self, deltas: Sequence[Delta]) -> Completion:
        choices = [writer.whole(delta) for writer, delta in zip(self._writers, deltas, strict=True)]
        return self._envelope(self._whole, choices, self._job.usage)

    def _usage_so_far(self) -> Usage | UnsetType | None:
        """Null where a chunk of its own behind the last choice will tell."""
        if self._usage_always:
            return self._job.usage
        return None if self._usage_at_end else UNSET

    def _envelope(
        self, name: str, choices: Sequence[ChatChoice | CompletionChoice], used: Usage | UnsetType | None
    ) -> Completion:
        job = self._job
        return Completion(
            id=job.request_id, object=name, created=self._created, model=job.model, choices=choices, usage=used
        )
