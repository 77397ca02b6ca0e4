"""Which tokens of which requests the next step computes.

There are no prefill and decode phases. Every request has tokens wanted and tokens computed, and a step hands out one
token budget, first to running requests, then to waiting ones; continuous batching, chunked prefill and prefix reuse
are all that one idea.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from itertools import count

from .kv_cache import KVCacheManager
from .messages import EngineRequest, EngineStats, RequestOutput
from .request import Request, Status
from .step import NewRequest, StepOutput, StepPlan


@dataclass(frozen=True, kw_only=True)
class SchedulerLimits:
    """What one step may hold. Without ``chunked_prefill`` a prompt is computed in one step or not yet."""

    max_num_seqs: int
    max_num_batched_tokens: int
    max_model_len: int
    chunked_prefill: bool = True


class Scheduler:
    """Owns every request from arrival to its last token, and the blocks they hold."""

    def __init__(self, limits: SchedulerLimits, kv_cache: KVCacheManager) -> None:
        self.limits = limits
        self.kv_cache = kv_cache
        self.requests: dict[str, Request] = {}
        self.running: list[Request] = []
        self._waiting: list[tuple[tuple[int, int], Request]] = []
        self._removed: list[str] = []
        self._arrivals = count()
        self._steps = 0
        self._step_tokens = 0
        self._preemptions = 0

    # -- arrival and departure --------------------------------------------------------------------------------------

    def add(self, source: EngineRequest, seed: int) -> None:
        """Queues a request; lower ``priority`` goes first, then earlier arrival."""
        order = (source.priority, next(self._arrivals))
        request = Request(source, seed=seed, order=order, num_groups=self.kv_cache.num_groups)
        self.requests[request.id] = request
        self._enqueue(request)

    def abort(self, request_id: str) -> bool:
        """Forgets a request at once, wherever it is; False if it is not known (any more)."""
        request = self.requests.get(request_id)
        if request is not None:
            self._finish(request)
        return request is not None

    @property
    def has_work(self) -> bool:
        """Whether a step would do anything: tokens to compute, or requests to take out of the batch."""
        return bool(self.requests) or bool(self._removed)

    def stats(self) -> EngineStats:
        pool = self.kv_cache.pool
        return EngineStats(
            running=len(self.running),
            waiting=len(self.requests) - len(self.running),
            total_blocks=pool.num_blocks - 1,
            free_blocks=pool.num_free,
            step_tokens=self._step_tokens,
            prefix_queries=self.kv_cache.queries,
            prefix_hits=self.kv_cache.hits,
            preemptions=self._preemptions,
            steps=self._steps,
        )

    # -- one step ---------------------------------------------------------------------------------------------------

    def schedule(self) -> StepPlan:
        """Plans the next step; changes who runs and who holds which blocks, but no request's tokens."""
        plan = StepPlan(step=self._steps, scheduled={})
        self._steps += 1
        preemptions = self._preemptions
        budget = self._schedule_running(plan, self.limits.max_num_batched_tokens)
        if self._preemptions == preemptions:  # where memory is short, nobody new is let in
            self._admit_waiting(plan, budget)
        plan.removed, self._removed = self._removed, []
        self._step_tokens = plan.num_tokens
        return plan

    def update(self, plan: StepPlan, output: StepOutput) -> list[RequestOutput]:
        """Books what a step brought; requests that left in the meantime are passed over."""
        results = []
        for request_id, num_tokens in plan.scheduled.items():
            request = self.requests.get(request_id)
            if request is None or request.status is not Status.RUNNING:
                continue
            request.num_computed_tokens += num_tokens
            self.kv_cache.publish(request)
            tokens = output.tokens.get(request_id)
            if tokens:
                results.append(self._accept(request, tokens, output))
        return results

    def _schedule_running(self, plan: StepPlan, budget: int) -> int:
        for request in list(self.running):
            num_tokens = min(request.num_missing_tokens, budget)
            if request.status is not Status.RUNNING or not num_tokens:
                continue
            added = self._extend_or_preempt(request, request.num_computed_tokens + num_tokens, plan)
            if added is None:
                continue
            self._plan_tokens(plan, request, num_tokens)
            if any(added):
                plan.new_blocks[request.id] = added
            budget -= num_tokens
        return budget

    def _extend_or_preempt(self, request: Request, num_tokens: int, plan: StepPlan) -> list[list[int]] | None:
        """Blocks for the request, taken from the least important ones running if need be; None: it was that one."""
        while (added := self.kv_cache.extend(request, num_tokens)) is None:
            victim = max(self.running, key=lambda candidate: candidate.order)
            self._preempt(victim, plan)
            if victim is request:
                return None
        return added

    def _preempt(self, victim: Request, plan: StepPlan) -> None:
        """Takes a request's blocks; it waits, in its old place, to be computed again (mostly from the prefix cache)."""
        self.running.remove(victim)
        plan.scheduled.pop(victim.id, None)
        plan.new_blocks.pop(victim.id, None)
        if victim.id in plan.sampled:
            plan.sampled.remove(victim.id)
        self.kv_cache.free(victim)
        self._removed.append(victim.id)
        self._preemptions += 1
        self._enqueue(victim)

    def _admit_waiting(self, plan: StepPlan, budget: int) -> None:
        while budget and len(self.running) < self.limits.max_num_seqs:
            request = self._peek_waiting()
            if request is None:
                return
            hit = self.kv_cache.find_prefix(request)
            missing = request.num_tokens - min(hit.num_tokens, request.num_tokens - 1)
            if not self.limits.chunked_prefill and budget < missing and plan.scheduled:
                return
            # Room for the whole prompt is asked for at once: admitting by chunks would promise the same blocks twice.
            if not self.kv_cache.admit(request, hit, request.num_tokens):
                return
            heapq.heappop(self._waiting)
            request.status = Status.RUNNING
            self.running.append(request)
            num_tokens = min(request.num_missing_tokens, budget)
            plan.new.append(self._new_request(request))
            self._plan_tokens(plan, request, num_tokens)
            budget -= num_tokens

    def _plan_tokens(self, plan: StepPlan, request: Request, num_tokens: int) -> None:
        plan.scheduled[request.id] = num_tokens
        if num_tokens == request.num_missing_tokens:
            plan.sampled.append(request.id)

    def _new_request(self, request: Request) -> NewRequest:
        return NewRequest(
            request_id=request.id,
            token_ids=list(request.token_ids),
            num_prompt_tokens=request.num_prompt_tokens,
            num_computed_tokens=request.num_computed_tokens,
            num_stored_tokens=request.num_stored_tokens,
            block_ids=[list(table) for table in request.block_ids],
            sampling=request.sampling,
            seed=request.seed,
            stop_token_ids=sorted(request.stop_token_ids),
            adapter=request.source.adapter,
        )

    def _accept(self, request: Request, tokens: list[int], output: StepOutput) -> RequestOutput:
        result = RequestOutput(request_id=request.id)
        if not request.num_output_tokens:
            result.cached_tokens = request.num_cached_tokens
        for token in tokens:
            request.token_ids.append(token)
            result.token_ids.append(token)
            reason = request.finish_reason(token, self.limits.max_model_len)
            if reason is not None:
                result.finish_reason = reason
                result.stop_reason = token if reason == "stop" else None
                break
        logprobs = output.logprobs.get(request.id)
        result.logprobs = None if logprobs is None else logprobs[: len(result.token_ids)]
        if result.finish_reason is not None:
            self._finish(request)
        return result

    # -- queues -----------------------------------------------------------------------------------------------------

    def _enqueue(self, request: Request) -> None:
        request.status = Status.WAITING
        heapq.heappush(self._waiting, (request.order, request))

    def _peek_waiting(self) -> Request | None:
        """The next request to admit; aborted ones are dropped here rather than searched for when they leave."""
        while self._waiting and self._waiting[0][1].status is not Status.WAITING:
            heapq.heappop(self._waiting)
        return self._waiting[0][1] if self._waiting else None

    def _finish(self, request: Request) -> None:
        if request.status is Status.RUNNING:
            self.running.remove(request)
            self._removed.append(request.id)
        request.status = Status.FINISHED
        self.kv_cache.free(request)
        del self.requests[request.id]
