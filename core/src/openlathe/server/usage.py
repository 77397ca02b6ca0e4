"""What a request cost, as both APIs report it."""

from __future__ import annotations

from msgspec import UNSET, UnsetType

from ..spi.errors import InvalidRequest
from .job import Job
from .requests import GenerationRequest
from .responses import PromptTokensDetails, Usage


def usage(job: Job) -> Usage:
    """The tokens of ``job`` so far; a prompt counts once, however many answers it gets."""
    return Usage(
        prompt_tokens=job.prompt_tokens,
        completion_tokens=job.output_tokens,
        total_tokens=job.prompt_tokens + job.output_tokens,
        prompt_tokens_details=PromptTokensDetails(cached_tokens=job.cached_tokens),
    )


class StreamUsage:
    """What the chunks of a stream say about usage, as ``stream_options`` asks."""

    def __init__(self, job: Job, body: GenerationRequest) -> None:
        options = body.stream_options
        if options is not None and not body.stream:
            raise InvalidRequest(
                "stream_options needs stream to be true; set it or leave both out.", param="stream_options"
            )
        self._job = job
        self._at_end = options is not None and bool(options.include_usage)
        self._always = self._at_end and options is not None and bool(options.continuous_usage_stats)

    def of_chunk(self) -> Usage | UnsetType | None:
        """For an ordinary chunk: null where the last one will tell."""
        if self._always:
            return usage(self._job)
        return None if self._at_end else UNSET

    def at_end(self) -> Usage | None:
        """For a chunk of its own behind the last choice."""
        return usage(self._job) if self._at_end else None
