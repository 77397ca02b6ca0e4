"""The persistent batch: what the runner remembers of every running request, in flat arrays.

A request keeps its row from joining to leaving, and a step only writes what changed. Building a step's inputs is a
handful of vectorised gathers, whatever the number of tokens. Token ids live on the device alone, where sampling writes
them, so that a step can be prepared while the tokens it starts from are still being computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .step import NewRequest, StepPlan

Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]


@dataclass(frozen=True)
class StepInputs:
    """Flat inputs of one step on the host, R requests and T tokens in plan order.

    ``rows`` [R] are the requests' rows, ``token_rows`` [T] the same by token, ``positions`` [T] int64, ``query_start``
    [R + 1] and ``seq_lens`` [R] int32; per KV group a ``block_table`` [R, B] int32 and a ``slot_mapping`` [T] int64.
    ``sampled`` [S] are indices of requests that sample, ``logits_index`` [S] the tokens whose hidden states they
    sample from. ``is_decode``: it is one token of each request, from which each samples.
    """

    rows: Int64
    token_rows: Int64
    positions: Int64
    query_start: Int32
    seq_lens: Int32
    block_tables: list[Int32]
    slot_mappings: list[Int64]
    sampled: Int64
    logits_index: Int64
    is_decode: bool

    @property
    def num_tokens(self) -> int:
        return len(self.positions)

    @property
    def sampled_rows(self) -> Int64:
        return self.rows if self.is_decode else self.rows[self.sampled]


@dataclass(frozen=True)
class DeviceInputs:
    """What the device reads of :class:`StepInputs`; ``token_ids`` [T] int64."""

    token_ids: Tensor
    positions: Tensor
    query_start: Tensor
    seq_lens: Tensor
    block_tables: list[Tensor]
    slot_mappings: list[Tensor]


class InputBatch:
    """Rows of running requests.

    ``token_ids`` [rows, max_model_len] int32 on the device holds prompts and what was sampled; each KV group has block
    tables [rows, ceil(max_model_len / block_size)] int32 on the host.
    """

    def __init__(
        self,
        max_num_seqs: int,
        max_model_len: int,
        block_size: int,
        num_groups: int,
        device: torch.device | None = None,
    ) -> None:
        self.block_size = block_size
        self.token_ids = torch.zeros(max_num_seqs, max_model_len, dtype=torch.int32, device=device)
        self.num_tokens = np.zeros(max_num_seqs, np.int64)
        self.num_computed = np.zeros(max_num_seqs, np.int64)
        self.num_stored = np.zeros(max_num_seqs, np.int64)
        width = -(-max_model_len // block_size)
        self.tables = [np.zeros((max_num_seqs, width), np.int32) for _ in range(num_groups)]
        self.table_lens = np.zeros((num_groups, max_num_seqs), np.int64)
        self.row_of: dict[str, int] = {}
        self._free_rows = list(range(max_num_seqs - 1, -1, -1))
        #: Where the device is the host, numpy reads and writes single tokens in a fraction of torch's time.
        self._tokens_here = self.token_ids.numpy() if self.token_ids.device.type == "cpu" else None
        self._decoding: tuple[list[str], StepInputs] | None = None  # the requests of the last step that decoded

    def apply(self, plan: StepPlan) -> None:
        """Brings the rows up to date: who left, who joined, which blocks were added."""
        if plan.removed or plan.new:
            self._decoding = None
        for request_id in plan.removed:
            self._free_rows.append(self.row_of.pop(request_id))
        for request in plan.new:
            self._join(request)
        for request_id, added in plan.new_blocks.items():
            self._append_blocks(self.row_of[request_id], added)

    def inputs(self, plan: StepPlan) -> StepInputs:
        """The flat inputs of ``plan``, which must have been applied."""
        names = list(plan.scheduled)
        decodes = plan.num_tokens == len(names) and plan.sampled == names
        if decodes and self._decoding is not None and self._decoding[0] == names:
            return self._next(self._decoding[1])
        inputs = self._inputs(plan, decodes)
        self._decoding = (names, inputs) if decodes else None
        return inputs

    def _next(self, last: StepInputs) -> StepInputs:
        """Another token of each request that ``last``, a step that only decoded, had one of."""
        rows = last.rows
        positions = self.num_computed[rows]
        seq_lens = (positions + 1).astype(np.int32)
        blocks, offsets = np.divmod(positions, self.block_size)
        width = int(blocks.max()) + 1
        return StepInputs(
            rows=rows,
            token_rows=rows,
            positions=positions,
            query_start=last.query_start,
            seq_lens=seq_lens,
            block_tables=[table[rows, :width] for table in self.tables],
            slot_mappings=[table[rows, blocks] * np.int64(self.block_size) + offsets for table in self.tables],
            sampled=last.sampled,
            logits_index=last.logits_index,
            is_decode=True,
        )

    def _inputs(self, plan: StepPlan, decodes: bool) -> StepInputs:
        rows = np.fromiter((self.row_of[request_id] for request_id in plan.scheduled), np.int64, len(plan.scheduled))
        lengths = np.fromiter(plan.scheduled.values(), np.int64, len(plan.scheduled))
        query_start = np.zeros(len(rows) + 1, np.int32)
        np.cumsum(lengths, out=query_start[1:])
        computed = self.num_computed[rows]
        token_rows = np.repeat(rows, lengths)
        positions = np.arange(query_start[-1]) + np.repeat(computed - query_start[:-1], lengths)
        seq_lens = (computed + lengths).astype(np.int32)
        width = -(-int(seq_lens.max()) // self.block_size)
        order = {request_id: index for index, request_id in enumerate(plan.scheduled)}
        sampled = np.fromiter((order[request_id] for request_id in plan.sampled), np.int64, len(plan.sampled))
        return StepInputs(
            rows=rows,
            token_rows=token_rows,
            positions=positions,
            query_start=query_start,
            seq_lens=seq_lens,
            block_tables=[table[rows, :width] for table in self.tables],
            slot_mappings=[self._slots(table, token_rows, positions) for table in self.tables],
            sampled=sampled,
            logits_index=query_start[1:][sampled].astype(np.int64) - 1,
            is_decode=decodes,
        )

    def tokens(self, inputs: StepInputs) -> Tensor:
        """The tokens [T] int64 that a step computes, on the device."""
        if self._tokens_here is not None:
            return torch.from_numpy(self._tokens_here[inputs.token_rows, inputs.positions].astype(np.int64))
        where = (torch.from_numpy(index).to(self.token_ids.device) for index in (inputs.token_rows, inputs.positions))
        return self.token_ids[tuple(where)].long()

    def compute(self, inputs: StepInputs) -> None:
        """Books a step: everything planned is computed."""
        self.num_computed[inputs.rows] = inputs.seq_lens

    def advance(self, inputs: StepInputs, tokens: Tensor) -> None:
        """Books a step after which each sampling request has one of ``tokens`` [S] more."""
        self.compute(inputs)
        rows = inputs.sampled_rows
        places = self.num_tokens[rows]
        if self._tokens_here is not None:
            self._tokens_here[rows, places] = tokens.numpy()
        else:
            where = [torch.from_numpy(index).to(self.token_ids.device) for index in (rows, places)]
            self.token_ids.index_put_(tuple(where), tokens.to(self.token_ids.dtype))
        self.num_tokens[rows] = places + 1

    def _slots(self, table: Int32, token_rows: Int64, positions: Int64) -> Int64:
        blocks = table[token_rows, positions // self.block_size].astype(np.int64)
        slots = blocks * self.block_size + positions % self.block_size
        # What the prefix cache holds is shared: a token computed again for its logits is stored in the null block.
        slots[positions < self.num_stored[token_rows]] = 0
        return slots

    def _join(self, request: NewRequest) -> None:
        row = self._free_rows.pop()
        self.row_of[request.request_id] = row
        self.token_ids[row, : len(request.token_ids)] = torch.tensor(request.token_ids, dtype=torch.int32)
        self.num_tokens[row] = len(request.token_ids)
        self.num_computed[row] = request.num_computed_tokens
        self.num_stored[row] = request.num_stored_tokens
        self.table_lens[:, row] = 0
        self._append_blocks(row, request.block_ids)

    def _append_blocks(self, row: int, added: Sequence[Sequence[int]]) -> None:
        for group, blocks in enumerate(added):
            start = self.table_lens[group, row]
            self.tables[group][row, start : start + len(blocks)] = blocks
            self.table_lens[group, row] = start + len(blocks)
