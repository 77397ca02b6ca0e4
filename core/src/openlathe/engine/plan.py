"""A step's plan while it is made, and what bounds it."""

from __future__ import annotations

from dataclasses import dataclass, field

from .request import Request
from .step import StepPlan


@dataclass(frozen=True, kw_only=True)
class SchedulerLimits:
    """What one step may hold.

    Without ``chunked_prefill`` a prompt is computed in one step or not yet. With it, a prompt gets at most
    ``long_prefill_token_threshold`` tokens of a step while others wait.
    """

    max_num_seqs: int
    max_num_batched_tokens: int
    max_model_len: int
    chunked_prefill: bool = True
    long_prefill_token_threshold: int = 2**31


@dataclass
class PlanDraft:
    """A plan, the budget it has left, and the requests behind its ids: an id may be used again before the step ends."""

    plan: StepPlan
    budget: int
    requests: dict[str, Request] = field(default_factory=dict)

    def schedule(self, request: Request, num_tokens: int, missing: int) -> None:
        """Gives ``num_tokens`` of the budget to a request; one that gets all it is ``missing`` samples the next one."""
        self.plan.scheduled[request.id] = num_tokens
        self.requests[request.id] = request
        self.budget -= num_tokens
        if num_tokens == missing:
            self.plan.sampled.append(request.id)
            request.num_pending_tokens += 1
        request.num_computed_tokens += num_tokens

    def drop(self, request: Request) -> None:
        """Takes back what was planned for a request that is preempted after all."""
        if self.requests.pop(request.id, None) is None:
            return
        self.budget += self.plan.scheduled.pop(request.id)
        self.plan.new_blocks.pop(request.id, None)
        if request.id in self.plan.sampled:
            self.plan.sampled.remove(request.id)
            request.num_pending_tokens -= 1
