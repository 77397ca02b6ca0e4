"""``/v1/completions``."""

from __future__ import annotations

import time
from collections.abc import Iterator

from msgspec import UNSET, UnsetType
from starlette.requests import Request

from ..engine.messages import TokenLogprobs
from ..frontend.choice import Delta
from ..frontend.tokenize import Tokenizer
from ..spi.errors import InvalidRequest
from ..spi.events import Content
from .body import read
from .generation import generate
from .job import Job
from .openai import FLOOR, OpenAIDialect
from .requests import MAX_PROMPTS, MAX_SEQUENCES, CompletionRequest
from .responses import CompletionChoice, CompletionLogprobs
from .sampling import check_prompt_ids, logprob_count, sampling_params, token_budget
from .sse import Answer
from .state import ServerState

DEFAULT_MAX_TOKENS = 16


async def completions(request: Request) -> Answer:
    state: ServerState = request.app.state.server
    arrival = time.monotonic()
    body = await read(request, CompletionRequest)
    job = await _job(state, body, request.state.request_id, arrival)
    ids = bool(body.return_token_ids)
    writers = [CompletionWriter(state.tokenizer, job, index, ids=ids) for index in range(job.choices)]
    dialect = OpenAIDialect(job, body, writers, chunk="text_completion", whole="text_completion")
    return Answer(request, generate(state, job), dialect, stream=job.streamed)


async def _job(state: ServerState, body: CompletionRequest, request_id: str, arrival: float) -> Job:
    model = state.served_model(body.model)
    prompts = await _prompts(state, body)
    if len(prompts) * (body.n or 1) > MAX_SEQUENCES:
        raise InvalidRequest(
            f"{len(prompts)} prompts with n {body.n} are more than {MAX_SEQUENCES} answers.", param="n"
        )
    budget = token_budget(state, prompts, body.max_tokens, "max_tokens", DEFAULT_MAX_TOKENS)
    logprobs = logprob_count(state, body.logprobs, "logprobs")
    return Job(
        request_id=f"cmpl-{body.request_id or request_id}",
        model=model,
        prompts=prompts,
        sampling=sampling_params(state, body, max_tokens=budget, logprobs=logprobs),
        priority=body.priority or 0,
        cache_salt=body.cache_salt,
        streamed=bool(body.stream),
        arrival=arrival,
    )


async def _prompts(state: ServerState, body: CompletionRequest) -> list[list[int]]:
    """The token ids of every prompt: a text, token ids, or a list of either."""
    sent = body.prompt
    if isinstance(sent, str) or (sent and isinstance(sent[0], int)):
        sent = [sent]
    if not sent or len(sent) > MAX_PROMPTS:
        raise InvalidRequest(f"prompt holds {len(sent)} prompts; send 1 to {MAX_PROMPTS}.", param="prompt")
    special = body.add_special_tokens is not False
    prompts = []
    for prompt in sent:
        if isinstance(prompt, str):
            prompts.append(await state.encode(prompt, add_special_tokens=special))
        elif isinstance(prompt, list):
            prompts.append(check_prompt_ids(state, prompt))
        else:
            raise InvalidRequest("prompt must be a text, token ids, or a list of texts or token ids.", param="prompt")
    return prompts


class CompletionWriter:
    """Says one choice; the offsets of log-probabilities count characters of the choice's tokens so far."""

    def __init__(self, tokenizer: Tokenizer, job: Job, index: int, *, ids: bool) -> None:
        self._tokenizer = tokenizer
        self._index = index
        self._prompt: list[int] | UnsetType = job.prompts[index // job.sampling.n] if ids else UNSET
        self._ids: list[int] | None = [] if ids else None
        self._logprobs: list[TokenLogprobs] | None = [] if job.sampling.logprobs is not None else None
        self._offset = 0

    def write(self, delta: Delta) -> Iterator[CompletionChoice]:
        if self._logprobs is not None:
            self._logprobs += delta.logprobs
        if self._ids is not None:
            self._ids += delta.token_ids
        text = "".join([event.text for event in delta.events if isinstance(event, Content)])
        if text or delta.finish_reason is not None:
            yield self._choice(text, delta)

    def whole(self, delta: Delta) -> CompletionChoice:
        return next(self.write(delta))

    def _choice(self, text: str, delta: Delta) -> CompletionChoice:
        choice = CompletionChoice(
            index=self._index, text=text, finish_reason=delta.finish_reason, stop_reason=delta.stop_reason
        )
        if self._logprobs is not None:
            choice.logprobs, self._logprobs = self._said(self._logprobs), []
        if self._ids is not None:
            choice.token_ids, self._ids = self._ids, []
            choice.prompt_token_ids, self._prompt = self._prompt, UNSET
        return choice

    def _said(self, positions: list[TokenLogprobs]) -> CompletionLogprobs:
        said, text = CompletionLogprobs(), self._tokenizer.token_text
        for position in positions:
            values = [max(value, FLOOR) for value in position.logprobs]
            token = text(position.token_ids[0])
            # two ids may share one text; the likelier is listed first and stays
            top: dict[str, float] = {}
            for id, value in sorted(zip(position.token_ids, values, strict=True), key=lambda pair: -pair[1]):
                top.setdefault(text(id), value)
            said.tokens.append(token)
            said.token_logprobs.append(values[0])
            said.top_logprobs.append(top)
            said.text_offset.append(self._offset)
            self._offset += len(token)
        return said
