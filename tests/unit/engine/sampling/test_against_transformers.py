"""Every change to the logits against the logits processor of the same name in transformers."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from transformers import LogitsProcessor
from transformers.generation.logits_process import (
    MinPLogitsWarper,
    NoBadWordsLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    SequenceBiasLogitsProcessor,
    SuppressTokensLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from openlathe.engine.messages import SamplingParams
from openlathe.engine.sampling.columns import SamplingColumns
from openlathe.kernels.draw import Filters, filtered
from openlathe.spi import LogitsBatch

from .reference import Rows, request

VOCAB = 300
ROWS = 4


@pytest.fixture
def logits() -> torch.Tensor:
    return torch.randn(ROWS, VOCAB, generator=torch.Generator().manual_seed(0)) * 2


@pytest.fixture
def texts() -> torch.Tensor:
    """[ROWS, 30]; half of it stands for a prompt, half was written."""
    return torch.randint(0, VOCAB, (ROWS, 30), generator=torch.Generator().manual_seed(1))


def changed(logits: torch.Tensor, texts: torch.Tensor, sampling: SamplingParams) -> torch.Tensor:
    """What the state makes of the logits before anything is drawn from them."""
    rows = Rows(ROWS, VOCAB)
    for row, text in enumerate(texts.tolist()):
        rows.join(row, request(sampling, text, prompt=15))
    batch = LogitsBatch(rows=list(range(ROWS)), num_tokens=rows.num_tokens.tolist(), token_ids=rows.token_ids)
    return rows.state._adjusted(logits, batch, None)


@pytest.mark.parametrize("penalty", [1.3, 2.0, 0.8])
def test_repetition_penalty(logits: torch.Tensor, texts: torch.Tensor, penalty: float) -> None:
    found = changed(logits, texts, SamplingParams(repetition_penalty=penalty))
    assert torch.equal(found, RepetitionPenaltyLogitsProcessor(penalty)(texts, logits.clone()))


def test_bad_words(logits: torch.Tensor, texts: torch.Tensor) -> None:
    """Words that begin with the ends of the texts, in one to five tokens, and words that do not."""
    words = [[*text[-length:], 7 * length] if length else [11] for length, text in enumerate(texts.tolist())]
    words += [[1, 2, 3], [*texts[0, -4:-1].tolist(), 9], [4, 5], texts[1, -6:].tolist(), [*texts[2].tolist(), 8]]
    found = changed(logits, texts, SamplingParams(bad_words_token_ids=words))
    # transformers leaves out the one word that is longer than the text by its last token
    theirs = NoBadWordsLogitsProcessor(words)(texts, logits.clone())
    theirs[2, 8] = -torch.inf
    assert torch.equal(found, theirs)


def test_logit_bias(logits: torch.Tensor, texts: torch.Tensor) -> None:
    bias = {3: 5.0, 77: -100.0, 299: 0.25}
    theirs = SequenceBiasLogitsProcessor([[[id], value] for id, value in bias.items()])
    assert torch.equal(changed(logits, texts, SamplingParams(logit_bias=bias)), theirs(texts, logits.clone()))


def test_allowed_token_ids(logits: torch.Tensor, texts: torch.Tensor) -> None:
    allowed = [5, 80, 81, 299]
    banned = [id for id in range(VOCAB) if id not in allowed]
    theirs = SuppressTokensLogitsProcessor(banned)(texts, logits.clone())
    assert torch.equal(changed(logits, texts, SamplingParams(allowed_token_ids=allowed)), theirs)


def test_min_tokens(logits: torch.Tensor, texts: torch.Tensor) -> None:
    rows = Rows(ROWS, VOCAB)
    for row, text in enumerate(texts.tolist()):
        sampling = SamplingParams(min_tokens=15 + row % 2, max_tokens=99)
        rows.join(row, request(sampling, text, prompt=15, stop=[4, 9]))
    batch = LogitsBatch(rows=list(range(ROWS)), num_tokens=rows.num_tokens.tolist(), token_ids=rows.token_ids)
    theirs = SuppressTokensLogitsProcessor([4, 9])(texts, logits.clone())
    theirs[::2] = logits[::2]  # these have their 15 tokens
    assert torch.equal(rows.state._adjusted(logits, batch, None), theirs)


@pytest.mark.parametrize(
    "sampling, make",
    [
        (SamplingParams(temperature=0.7), lambda: [TemperatureLogitsWarper(0.7)]),
        (SamplingParams(top_k=7), lambda: [TopKLogitsWarper(7)]),
        (SamplingParams(top_p=0.8), lambda: [TopPLogitsWarper(0.8)]),
        (SamplingParams(min_p=0.05), lambda: [MinPLogitsWarper(0.05)]),
        (
            SamplingParams(temperature=1.4, min_p=0.01, top_k=40, top_p=0.9),
            lambda: [TemperatureLogitsWarper(1.4), MinPLogitsWarper(0.01), TopKLogitsWarper(40), TopPLogitsWarper(0.9)],
        ),
    ],
)
def test_temperature_and_filters(
    logits: torch.Tensor, texts: torch.Tensor, sampling: SamplingParams, make: Callable[[], list[LogitsProcessor]]
) -> None:
    columns = SamplingColumns(ROWS, VOCAB)
    for row in range(ROWS):
        columns.write(row, request(sampling))
    probs = (logits / float(columns.temperature[0])).softmax(-1)
    ours = filtered(probs, Filters(top_k=columns.top_k, top_p=columns.top_p, min_p=columns.min_p))
    theirs = logits.clone()
    for processor in make():
        theirs = processor(texts, theirs)
    torch.testing.assert_close(ours / ours.sum(-1, keepdim=True), theirs.softmax(-1))
