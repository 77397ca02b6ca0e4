"""A chat's stream as ``chat.completion.chunk`` objects, and the whole answer as their fold."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

from msgspec import UNSET, Struct

from ..frontend.choice import Delta
from ..spi.events import Content, Event, Reasoning, ToolCallArguments, ToolCallStart
from .generation import Tick
from .job import Job
from .logprobs import chat_logprob
from .requests import ChatRequest
from .responses import (
    ChatChoice,
    ChatChunk,
    ChatChunkChoice,
    ChatCompletion,
    ChatDelta,
    ChatLogprob,
    ChatLogprobs,
    ChatMessage,
    FunctionCall,
    FunctionDelta,
    ToolCall,
    ToolCallDelta,
    Usage,
)
from .sse import Dialect
from .state import ServerState
from .usage import StreamUsage, usage


class ChatDialect(Dialect):
    """Deltas as chunks, and their fold."""

    def __init__(self, state: ServerState, job: Job, body: ChatRequest) -> None:
        self._job = job
        self._created = int(time.time())
        self._usage = StreamUsage(job, body)
        self._shows_prompt = bool(body.return_token_ids)
        self._writers = [_ChoiceWriter(state, job, body, index) for index in range(job.sampling.n)]
        self._folded = [_FoldedChoice(index) for index in range(job.sampling.n)]

    def chunks(self, tick: Tick) -> list[ChatChunk]:
        chunks = [self._chunk([choice]) for index, delta in tick for choice in self._writers[index].write(delta)]
        if chunks and self._shows_prompt:
            chunks[0].prompt_token_ids = self._job.prompts[0]
            self._shows_prompt = False
        return chunks

    def last_chunks(self) -> list[ChatChunk]:
        total = self._usage.at_end()
        return [self._chunk([], total)] if total is not None else []

    def fold(self, chunks: Sequence[Struct]) -> None:
        for chunk in chunks:
            assert isinstance(chunk, ChatChunk)
            for choice in chunk.choices:
                self._folded[choice.index].add(choice)

    def answer(self) -> ChatCompletion:
        choices = [folded.whole() for folded in self._folded]
        shows_prompt = choices[0].token_ids is not UNSET
        return ChatCompletion(
            id=self._job.request_id,
            created=self._created,
            model=self._job.model,
            choices=choices,
            usage=usage(self._job),
            prompt_token_ids=self._job.prompts[0] if shows_prompt else UNSET,
        )

    def _chunk(self, choices: list[ChatChunkChoice], total: Usage | None = None) -> ChatChunk:
        return ChatChunk(
            id=self._job.request_id,
            created=self._created,
            model=self._job.model,
            choices=choices,
            usage=total if total is not None else self._usage.of_chunk(),
        )


class _ChoiceWriter:
    """Makes the chunks of one choice; log-probabilities and ids wait for the next chunk that has something to say."""

    def __init__(self, state: ServerState, job: Job, body: ChatRequest, index: int) -> None:
        self._tokenizer = state.tokenizer
        self._index = index
        self._shows_reasoning = body.include_reasoning is not False
        self._logprobs: list[ChatLogprob] | None = [] if job.sampling.logprobs is not None else None
        self._ids: list[int] | None = [] if body.return_token_ids else None
        self._started = False

    def write(self, delta: Delta) -> Iterator[ChatChunkChoice]:
        if self._logprobs is not None:
            self._logprobs += [chat_logprob(self._tokenizer, position) for position in delta.logprobs]
        if self._ids is not None:
            self._ids += delta.token_ids
        said = list(_chat_deltas(delta.events, self._shows_reasoning))
        if not self._started and (said or delta.finish_reason is not None):
            self._started = True
            yield ChatChunkChoice(index=self._index, delta=ChatDelta(role="assistant", content=""))
        for item in said:
            yield self._choice(item)
        if delta.finish_reason is not None:
            last = self._choice(ChatDelta())
            last.finish_reason, last.stop_reason = delta.finish_reason, delta.stop_reason
            yield last

    def _choice(self, delta: ChatDelta) -> ChatChunkChoice:
        choice = ChatChunkChoice(index=self._index, delta=delta)
        if self._logprobs:
            choice.logprobs, self._logprobs = ChatLogprobs(content=self._logprobs), []
        if self._ids is not None:
            choice.token_ids, self._ids = self._ids, []
        return choice


def _chat_deltas(events: Sequence[Event], shows_reasoning: bool) -> Iterator[ChatDelta]:
    """Events of one kind in a row make one delta; a call's end says nothing on the wire."""
    position = 0
    while position < len(events):
        event = events[position]
        same = position + 1
        if isinstance(event, Content | Reasoning | ToolCallArguments):
            while same < len(events) and _continues(event, events[same]):
                same += 1
            text = "".join([item.text for item in events[position:same]])  # type: ignore[union-attr]
            if isinstance(event, Content):
                yield ChatDelta(content=text)
            elif isinstance(event, ToolCallArguments):
                yield _call_delta(event.index, FunctionDelta(arguments=text))
            elif shows_reasoning:
                yield ChatDelta(reasoning=text, reasoning_content=text)
        elif isinstance(event, ToolCallStart):
            function = FunctionDelta(name=event.name, arguments="")
            yield _call_delta(event.index, function, id=event.id, type="function")
        position = same


def _continues(event: Event, following: Event) -> bool:
    return type(event) is type(following) and getattr(event, "index", None) == getattr(following, "index", None)


def _call_delta(index: int, function: FunctionDelta, **more: Any) -> ChatDelta:
    return ChatDelta(tool_calls=[ToolCallDelta(index=index, function=function, **more)])


class _FoldedChoice:
    """One choice's chunks as one message."""

    def __init__(self, index: int) -> None:
        self._index = index
        self._content: list[str] = []
        self._reasoning: list[str] = []
        self._calls: dict[int, tuple[ToolCallDelta, list[str]]] = {}
        self._logprobs: list[ChatLogprob] | None = None
        self._ids: list[int] | None = None
        self._last: ChatChunkChoice | None = None

    def add(self, chunk: ChatChunkChoice) -> None:
        delta = chunk.delta
        if delta.content:
            self._content.append(delta.content)
        if delta.reasoning:
            self._reasoning.append(delta.reasoning)
        for call in delta.tool_calls or ():
            _, arguments = self._calls.setdefault(call.index, (call, []))
            arguments.append(call.function.arguments or "")
        if chunk.logprobs is not None:
            self._logprobs = self._logprobs or []
            self._logprobs += chunk.logprobs.content
        if chunk.token_ids is not UNSET:
            self._ids = self._ids or []
            self._ids += chunk.token_ids
        self._last = chunk

    def whole(self) -> ChatChoice:
        last = self._last or ChatChunkChoice(index=self._index, delta=ChatDelta())
        return ChatChoice(
            index=self._index,
            message=self._message(),
            logprobs=ChatLogprobs(content=self._logprobs) if self._logprobs is not None else None,
            finish_reason=last.finish_reason,
            stop_reason=last.stop_reason if last.stop_reason is not UNSET else None,
            token_ids=self._ids if self._ids is not None else UNSET,
        )

    def _message(self) -> ChatMessage:
        content, reasoning = "".join(self._content), "".join(self._reasoning)
        message = ChatMessage(role="assistant", content=content)
        if reasoning:
            message.reasoning = message.reasoning_content = reasoning
        if self._calls:
            message.tool_calls = [
                ToolCall(
                    id=start.id or "", function=FunctionCall(name=start.function.name or "", arguments="".join(parts))
                )
                for start, parts in self._calls.values()
            ]
        if not content and (reasoning or self._calls):
            message.content = None
        return message
