"""The vocabulary in blocks: what is known of each block spares looking at most of its tokens."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import pad

#: Tokens in a block: few hundred blocks of few hundred tokens make both levels of a search cheap.
WIDTH = 128


def blocks(values: Tensor, fill: float = 0.0) -> Tensor:
    """``values`` [S, V] as [S, B, WIDTH], the last block filled up; a view where nothing has to be filled."""
    missing = -values.shape[-1] % WIDTH
    return (pad(values, (0, missing), value=fill) if missing else values).unflatten(-1, (-1, WIDTH))


def largest(values: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The ``count`` largest of ``values`` [S, V] and their indices, each [S, count], largest first.

    The ``count`` blocks with the largest maxima hold them all, so that only those are searched.
    """
    divided = blocks(values, fill=float("-inf"))
    if count * 4 > divided.shape[1]:
        return values.topk(count, dim=-1)
    best = divided.amax(-1).topk(count, dim=-1).indices
    found, where = divided.gather(1, best[:, :, None].expand(-1, -1, WIDTH)).flatten(1).topk(count, dim=-1)
    ids = best.gather(1, where // WIDTH) * WIDTH + where % WIDTH
    # What fills the last block may stand among the last of a row that is minus infinity nearly everywhere.
    return found, ids.clamp(max=values.shape[-1] - 1)
