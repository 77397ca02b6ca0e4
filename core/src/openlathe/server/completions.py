"""``/v1/completions``."""

from __future__ import annotations

import time
from collections.abc import Sequence

from msgspec import UNSET, Struct
from starlette.requests import Request

from ..engine.messages import TokenLogprobs
from ..frontend.choice import Delta
from ..spi.errors import InvalidRequest
from ..spi.events import Content
from .body import read
from .generation import Tick, generate
from .job import Job
from .logprobs import CompletionLogprobsBuilder
from .requests import MAX_PROMPTS, MAX_SEQUENCES, CompletionRequest
from .responses import Completion, CompletionChoice, CompletionLogprobs, Usage
from .sampling import check_prompt_ids, logprob_count, sampling_params, token_budget
from .sse import Answer, Dialect
from .state import ServerState
from .usage import StreamUsage, usage

DEFAULT_MAX_TOKENS = 16


async def completions(request: Request) -> Answer:
    state: ServerState = request.app.state.server
    arrival = time.monotonic()
    body = await read(request, CompletionRequest)
    job = await _job(state, body, request.state.request_id, arrival)
    dialect = CompletionDialect(state, job, body)
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


class CompletionDialect(Dialect):
    """Deltas as ``text_completion`` chunks, and their fold."""

    def __init__(self, state: ServerState, job: Job, body: CompletionRequest) -> None:
        self._job = job
        self._created = int(time.time())
        self._usage = StreamUsage(job, body)
        count = job.sampling.n * len(job.prompts)
        self._writers = [_ChoiceWriter(state, job, index, ids=bool(body.return_token_ids)) for index in range(count)]
        self._folded = [_FoldedChoice(index) for index in range(count)]

    def chunks(self, tick: Tick) -> list[Completion]:
        choices = [self._writers[index].write(delta) for index, delta in tick]
        return [self._chunk([choice]) for choice in choices if choice is not None]

    def last_chunks(self) -> list[Completion]:
        total = self._usage.at_end()
        return [self._chunk([], total)] if total is not None else []

    def fold(self, chunks: Sequence[Struct]) -> None:
        for chunk in chunks:
            assert isinstance(chunk, Completion)
            for choice in chunk.choices:
                self._folded[choice.index].add(choice)

    def answer(self) -> Completion:
        return self._chunk([choice.whole() for choice in self._folded], usage(self._job))

    def _chunk(self, choices: list[CompletionChoice], total: Usage | None = None) -> Completion:
        return Completion(
            id=self._job.request_id,
            created=self._created,
            model=self._job.model,
            choices=choices,
            usage=total if total is not None else self._usage.of_chunk(),
        )


class _ChoiceWriter:
    """Makes the chunks of one choice; log-probabilities and ids wait for the next chunk that has something to say."""

    def __init__(self, state: ServerState, job: Job, index: int, *, ids: bool) -> None:
        self._index = index
        self._prompt: list[int] | None = job.prompts[index // job.sampling.n] if ids else None
        self._ids: list[int] | None = [] if ids else None
        self._builder = CompletionLogprobsBuilder(state.tokenizer) if job.sampling.logprobs is not None else None
        self._logprobs: list[TokenLogprobs] = []

    def write(self, delta: Delta) -> CompletionChoice | None:
        self._logprobs += delta.logprobs
        if self._ids is not None:
            self._ids += delta.token_ids
        text = "".join([event.text for event in delta.events if isinstance(event, Content)])
        if not text and delta.finish_reason is None:
            return None
        choice = CompletionChoice(
            index=self._index, text=text, finish_reason=delta.finish_reason, stop_reason=delta.stop_reason
        )
        if self._builder is not None:
            choice.logprobs = CompletionLogprobs()
            self._builder.add(self._logprobs, choice.logprobs)
            self._logprobs = []
        if self._ids is not None:
            choice.token_ids, self._ids = self._ids, []
            choice.prompt_token_ids, self._prompt = (self._prompt if self._prompt is not None else UNSET), None
        return choice


class _FoldedChoice:
    """One choice's chunks as one."""

    def __init__(self, index: int) -> None:
        self._whole = CompletionChoice(index=index, text="")
        self._texts: list[str] = []

    def add(self, chunk: CompletionChoice) -> None:
        whole = self._whole
        self._texts.append(chunk.text)
        whole.finish_reason, whole.stop_reason = chunk.finish_reason, chunk.stop_reason
        if chunk.prompt_token_ids is not UNSET:
            whole.prompt_token_ids = chunk.prompt_token_ids
        if chunk.token_ids is not UNSET:
            whole.token_ids = whole.token_ids or []
            whole.token_ids += chunk.token_ids
        if chunk.logprobs is not None:
            whole.logprobs = whole.logprobs or CompletionLogprobs()
            for name in CompletionLogprobs.__struct_fields__:
                getattr(whole.logprobs, name).extend(getattr(chunk.logprobs, name))

    def whole(self) -> CompletionChoice:
        self._whole.text = "".join(self._texts)
        return self._whole
