"""Which tokens of which requests the next step computes.

There are no prefill and decode phases. Every request has tokens wanted and tokens computed, and a step hands out one
token budget, first to running requests, then to waiting ones; continuous batching, chunked prefill and prefix reuse
are all that one idea.

A step may be planned before the one ahead of it has brought its tokens: a request is then wanted one token further,
whichever that will be. Steps run in the order in which they are planned, so whatever a plan says will be computed may
be built upon by the next one.
"""

from __future__ import annotations

import time
from collections import deque
from itertools import count

from .kv_cache import KVCacheManager, PrefixHit
from .messages import EngineRequest, EngineStats, RequestOutput
from .plan import PlanDraft, SchedulerLimits
from .queue import WaitingQueue
from .request import Request, Status
from .step import NewRequest, StepOutput, StepPlan


class Scheduler:
    """Owns every request from arrival to its last token, and the blocks they hold."""

    def __init__(self, limits: SchedulerLimits, kv_cache: KVCacheManager) -> None:
        self.limits = limits
        self.kv_cache = kv_cache
        self.requests: dict[str, Request] = {}
        self.running: list[Request] = []
        self.waiting = WaitingQueue()
        self.held: dict[str, Request] = {}
        self._removed: list[str] = []
        self._in_flight: deque[PlanDraft] = deque()
        self._arrivals = count()
        self._steps = 0
        self._step_tokens = 0
        self._preemptions = 0

    # -- arrival and departure --------------------------------------------------------------------------------------

    def add(self, source: EngineRequest, seed: int) -> None:
        """Queues a request; lower ``priority`` goes first, then earlier arrival."""
        request = Request(
            source,
            seed=seed,
            order=(source.priority, next(self._arrivals)),
            num_groups=self.kv_cache.num_groups,
            max_model_len=self.limits.max_model_len,
        )
        parent = request.parent = self._parent_of(source)
        self.requests[request.id] = request
        # Behind a parent of worse priority it would wait for everybody in between.
        if parent and parent.order < request.order and parent.num_computed_tokens < parent.num_prompt_tokens:
            self.waiting.defer(request, parent)
        else:
            self.waiting.push(request)

    def _parent_of(self, source: EngineRequest) -> Request | None:
        """The request to fork from, if it is there and its keys and values mean the same."""
        parent = self.requests.get(source.fork_of) if source.fork_of else None
        if parent is None or (parent.source.adapter, parent.source.cache_salt) != (source.adapter, source.cache_salt):
            return None
        return parent

    def abort(self, request_id: str) -> bool:
        """Forgets a request at once, wherever it is; False if it is not known (any more)."""
        request = self.requests.get(request_id)
        if request is not None:
            self._leave(request)
        return request is not None

    @property
    def has_work(self) -> bool:
        """Whether a step would do anything: tokens to compute or to wait for, or requests to take out of the batch."""
        return len(self.requests) > len(self.held) or bool(self._removed) or bool(self._in_flight)

    def stats(self) -> EngineStats:
        pool = self.kv_cache.pool
        return EngineStats(
            running=len(self.running),
            waiting=len(self.waiting),
            deferred=self.waiting.num_deferred,
            held=len(self.held),
            total_blocks=pool.num_blocks - 1,
            free_blocks=pool.num_free,
            step_tokens=self._step_tokens,
            prefix_queries=self.kv_cache.queries,
            prefix_hits=self.kv_cache.hits,
            preemptions=self._preemptions,
            steps=self._steps,
        )

    # -- one step ---------------------------------------------------------------------------------------------------

    def schedule(self) -> StepPlan | None:
        """Plans the next step, to be answered by one :meth:`update`; None where there is nothing to do.

        Changes who runs and who holds which blocks, but no request's tokens.
        """
        step = self._steps + len(self._in_flight)
        draft = PlanDraft(StepPlan(step=step, scheduled={}), self.limits.max_num_batched_tokens)
        preemptions = self._preemptions
        self._schedule_running(draft)
        if self._preemptions == preemptions:  # where memory is short, nobody new is let in
            self._admit_waiting(draft)
        plan = draft.plan
        plan.removed, self._removed = self._removed, []
        if not (plan.scheduled or plan.removed):
            return None
        for request in draft.requests.values():
            self.kv_cache.publish(request)
            if request.forks and request.num_computed_tokens >= request.num_prompt_tokens:
                self.waiting.release(request)
        self._in_flight.append(draft)
        return plan

    def update(self, output: StepOutput) -> list[RequestOutput]:
        """Books what the oldest planned step brought; requests that left in the meantime are passed over."""
        draft = self._in_flight.popleft()
        assert output.step == draft.plan.step, "steps end in the order in which they were planned"
        self._steps += 1
        self._step_tokens = draft.plan.num_tokens
        results = []
        for request in draft.requests.values():
            if request.status in (Status.FINISHED, Status.HELD):
                continue
            result = RequestOutput(request_id=request.id)
            if prompt_logprobs := output.prompt_logprobs.get(request.id):
                request.num_prompt_logprobs += len(prompt_logprobs)
                result.prompt_logprobs = prompt_logprobs
            if tokens := output.tokens.get(request.id):
                self._accept(request, tokens, output, result)
            pooled = result.pooled = output.pooled.get(request.id)
            if pooled is not None:
                self._tell_beginning(request, result)
                result.finish_reason = "stop"
                self._leave(request)
            if prompt_logprobs or tokens or pooled:
                results.append(result)
        return results

    # -- those that run -----------------------------------------------------------------------------------------------

    def _schedule_running(self, draft: PlanDraft) -> None:
        """One token each to those that decode, so that a long prompt holds nobody up, and then the rest."""
        wanted = [(request, request.num_missing_tokens) for request in self.running]
        for request, missing in sorted(wanted, key=lambda wants: wants[1] > 1):
            num_tokens = self._chunk(missing, draft)
            if request.status is not Status.RUNNING or not num_tokens:
                continue
            added = self._extend_or_preempt(request, draft)
            if added is None:
                continue
            if any(added):
                draft.plan.new_blocks[request.id] = added
            draft.schedule(request, num_tokens, missing)

    def _chunk(self, missing: int, draft: PlanDraft) -> int:
        """Of the tokens a request misses those for this step; a long prompt leaves some where others wait."""
        threshold = self.limits.long_prefill_token_threshold
        if missing > threshold and self.limits.chunked_prefill and self._somebody_could_join():
            missing = threshold
        return min(missing, draft.budget)

    def _somebody_could_join(self) -> bool:
        """Whether there is a seat, and a request that waits for nothing but its turn."""
        request = self.waiting.peek()
        if request is None or len(self.running) >= self.limits.max_num_seqs:
            return False
        return not self.waiting.is_blocked(request, self.kv_cache.pool.num_free)

    def _extend_or_preempt(self, request: Request, draft: PlanDraft) -> list[list[int]] | None:
        """Blocks for the request, taken from the least important ones running if need be; None: it was that one."""
        while (added := self.kv_cache.extend(request)) is None:
            if self._drop_held():
                continue
            victim = max(self.running, key=lambda candidate: candidate.order)
            self._preempt(victim, draft)
            if victim is request:
                return None
        return added

    def _preempt(self, victim: Request, draft: PlanDraft) -> None:
        """Takes a request's blocks; it waits, in its old place, to be computed again (mostly from the prefix cache).

        What a step under way samples for it is still its next token.
        """
        draft.drop(victim)
        self.running.remove(victim)
        self._removed.append(victim.id)
        self.kv_cache.free(victim)
        victim.num_preemptions += 1
        self._preemptions += 1
        self.waiting.push(victim)

    def _drop_held(self) -> bool:
        """Gives up the blocks that were held longest; whoever wanted to fork from them is computed instead."""
        if not self.held:
            return False
        self._leave(next(iter(self.held.values())))
        return True

    # -- those that wait ----------------------------------------------------------------------------------------------

    def _admit_waiting(self, draft: PlanDraft) -> None:
        while draft.budget:
            request = self.waiting.peek()
            if request is None or request.num_pending_tokens:  # just preempted, its newest token still on its way
                return
            if len(self.running) >= self.limits.max_num_seqs and not self._preempt_for(request, draft):
                return
            hit = self._find_room(request, draft)
            if hit is None:
                return
            self.waiting.pop()
            request.status = Status.RUNNING
            request.scheduled_time = request.scheduled_time or time.monotonic()
            self.running.append(request)
            request.parent = None
            draft.plan.new.append(_new_request(request, hit))
            missing = request.num_missing_tokens
            draft.schedule(request, self._chunk(missing, draft), missing)

    def _find_room(self, request: Request, draft: PlanDraft) -> PrefixHit | None:
        """Takes the request's blocks, from less important requests if need be; None where it has to wait.

        Room for the whole prompt, as far as it is held at once, is asked for: admitting by chunks would promise the
        same blocks twice.
        """
        if not self.held and self.waiting.is_blocked(request, self.kv_cache.pool.num_free):
            return None
        if draft.requests and self.waiting.is_too_long(request, draft.budget):
            return None
        while True:
            hit = self.kv_cache.find_prefix(request)
            missing = request.num_tokens - min(hit.num_tokens, request.num_tokens - 1)
            if not self.limits.chunked_prefill and draft.budget < missing and draft.requests:
                if not draft.plan.new:  # whose prompts this one may go on from in the next step
                    self.waiting.put_off(request, missing)
                return None
            if self.kv_cache.admit(request, hit):
                return hit
            if not (self._drop_held() or self._preempt_for(request, draft)):
                self.waiting.block(request, self.kv_cache.pool.num_free)
                return None

    def _preempt_for(self, request: Request, draft: PlanDraft) -> bool:
        """Preempts the least important request that runs, if its priority is worse."""
        victim = max(self.running, key=lambda candidate: candidate.order, default=None)
        if victim is None or victim.source.priority <= request.source.priority:
            return False
        self._preempt(victim, draft)
        return True

    # -- tokens -------------------------------------------------------------------------------------------------------

    def _accept(self, request: Request, tokens: list[int], output: StepOutput, result: RequestOutput) -> None:
        self._tell_beginning(request, result)
        request.num_pending_tokens -= 1
        for token in tokens:
            request.token_ids.append(token)
            result.token_ids.append(token)
            result.finish_reason = request.finish_reason(token)
            if result.finish_reason is not None:
                result.stop_reason = token if result.finish_reason == "stop" else None
                break
        logprobs = output.logprobs.get(request.id)
        result.logprobs = None if logprobs is None else logprobs[: len(result.token_ids)]
        if request.status is Status.RUNNING:
            self.kv_cache.publish(request)
        if result.finish_reason is not None:
            self._leave(request, hold=request.source.hold)

    def _tell_beginning(self, request: Request, result: RequestOutput) -> None:
        if not request.num_output_tokens:
            result.cached_tokens = request.num_cached_tokens
            result.scheduled_time = request.scheduled_time
        result.preemptions = request.num_preemptions

    def _leave(self, request: Request, *, hold: bool = False) -> None:
        if request.status is Status.RUNNING:
            self.running.remove(request)
            self._removed.append(request.id)
        elif request.status is Status.WAITING:
            self.waiting.forget(request)
        self.held.pop(request.id, None)
        self.waiting.release(request)
        if hold and any(request.block_ids):
            request.status = Status.HELD
            self.held[request.id] = request
            return
        request.status = Status.FINISHED
        request.parent = None
        self.kv_cache.free(request)
        del self.requests[request.id]


def _new_request(request: Request, hit: PrefixHit) -> NewRequest:
    full = len(hit.blocks[0]) if hit.blocks else 0
    copies = [(block, table[full]) for block, table in zip(hit.tail, request.block_ids, strict=False)]
    return NewRequest(
        request_id=request.id,
        token_ids=list(request.token_ids),
        num_prompt_tokens=request.num_prompt_tokens,
        num_computed_tokens=request.num_computed_tokens,
        num_stored_tokens=request.num_stored_tokens,
        block_ids=[list(table) for table in request.block_ids],
        copied_blocks=copies,
        sampling=request.sampling,
        seed=request.seed,
        stop_token_ids=sorted(request.stop_token_ids),
        num_prompt_logprobs=request.num_prompt_logprobs,
        adapter=request.source.adapter,
        thinking_budget=request.source.thinking_budget,
        pooling=request.source.pooling,
        token_type_ids=request.source.token_type_ids,
    )
