"""Rules for stream parsers: right on golden transcripts, and the same however the stream is cut.

A rule is a function ``check_*(format)`` of :mod:`openlathe_sdk.parsing` that raises ``AssertionError``; here each is
applied to a provider.
"""

from __future__ import annotations

from collections.abc import Callable

from openlathe.spi import Provider

from ..parsing import conduct, cuts, golden, robust
from ..parsing.format import Format, format_of


def _rule(check: Callable[[Format], None]) -> Callable[[Provider], None]:
    def test(provider: Provider) -> None:
        check(format_of(provider))

    test.__doc__ = check.__doc__
    return test


test_enough_transcripts = _rule(golden.check_enough_transcripts)
test_golden_transcripts = _rule(golden.check_golden_transcripts)
test_every_cut_in_two = _rule(cuts.check_every_cut_in_two)
test_one_character_at_a_time = _rule(cuts.check_one_character_at_a_time)
test_random_cuts = _rule(cuts.check_random_cuts)
test_token_by_token = _rule(cuts.check_token_by_token)
test_nothing_is_retracted = _rule(cuts.check_nothing_is_retracted)
test_arguments_stream = _rule(cuts.check_arguments_stream)
test_truncation = _rule(robust.check_truncation)
test_plain_text = _rule(robust.check_plain_text)
test_any_text = _rule(robust.check_any_text)
test_tokens_only = _rule(robust.check_tokens_only)
test_instances_share_nothing = _rule(conduct.check_instances_share_nothing)
test_prompt = _rule(conduct.check_prompt)
test_work_is_linear = _rule(conduct.check_work_is_linear)
