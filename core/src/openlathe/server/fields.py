"""Request fields that exist elsewhere and not here, as data: what is refused by name and what is harmless.

A field in neither table and unknown to a request's struct is reported to the client in a response header: nothing a
client asks for is dropped in silence.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..spi.errors import InvalidRequest

#: Response header that lists the fields of a request that this server does not know.
UNKNOWN_FIELDS_HEADER = "X-Openlathe-Unknown-Fields"

#: Field -> its neutral values (null always is one); any other value is refused.
REFUSED: dict[str, tuple[Any, ...]] = {
    # sampling
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "repetition_penalty": (1,),
    "length_penalty": (1,),
    "logit_bias": ({},),
    "bad_words": ([],),
    "allowed_token_ids": (),
    "logit_bias_exp": (),
    "use_beam_search": (False,),
    "best_of": (1,),
    "early_stopping": (False,),
    "prompt_logprobs": (),
    "logprob_token_ids": (),
    "repetition_detection": (),
    "thinking_token_budget": (),
    "watermarking": (False,),
    "stream_interval": (1,),
    "vllm_xargs": ({},),
    # structured output
    "response_format": ({"type": "text"},),
    "structured_outputs": (),
    "guided_json": (),
    "guided_regex": (),
    "guided_choice": (),
    "guided_grammar": (),
    "guided_decoding_backend": (),
    "guided_whitespace_pattern": (),
    "structural_tag": (),
    # prompt and output
    "echo": (False,),
    "suffix": ("",),
    "prompt_embeds": (),
    "truncate_prompt_tokens": (),
    "spaces_between_special_tokens": (True,),
    "chat_template": (),
    "return_tokens_as_token_ids": (False,),
    "return_token_offsets": (False,),
    "return_prompt_text": (False,),
    "mm_processor_kwargs": ({},),
    "media_io_kwargs": ({},),
    "modalities": (["text"],),
    "audio": (),
    "prediction": (),
    "web_search_options": (),
    "functions": ([],),
    "function_call": ("none",),
    # transport
    "kv_transfer_params": (),
    "ec_transfer_params": (),
    "store": (False,),
}

#: Fields that change nothing about an answer, whatever their value.
HARMLESS = frozenset(
    {
        "user",
        "metadata",
        "service_tier",
        "safety_identifier",
        "prompt_cache_key",
        "prompt_cache_retention",
        "session_id",
        "verbosity",
        "truncation_side",
    }
)


def check_fields(sent: Mapping[str, Any], known: frozenset[str]) -> list[str]:
    """Refuses fields that ask for what this server does not do; returns the names nobody here has heard of."""
    unknown = []
    for name, value in sent.items():
        if name in known or name in HARMLESS:
            continue
        if name not in REFUSED:
            unknown.append(name)
        elif value is not None and not any(_same(value, neutral) for neutral in REFUSED[name]):
            raise InvalidRequest(_refusal(name), param=name, code="unsupported_parameter")
    return unknown


def _same(value: Any, neutral: Any) -> bool:
    return bool(value == neutral) and isinstance(value, bool) == isinstance(neutral, bool)


def _refusal(name: str) -> str:
    neutral = REFUSED[name]
    hint = f" or send {neutral[0]!r}" if neutral and not isinstance(neutral[0], dict | list) else ""
    return f"{name!r} is not supported by this server; leave it out{hint}."


def header_value(names: list[str]) -> str:
    """Names as the value of a header: printable ASCII, a bounded number and length."""
    shown = ["".join(char if "!" <= char <= "~" and char != "," else "?" for char in name[:64]) for name in names[:16]]
    return ", ".join(shown)
