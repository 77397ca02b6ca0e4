"""Tensors where they lie: what is read is what safetensors reads, and what nobody holds leaves the process."""

from __future__ import annotations

import json
import mmap
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from openlathe.engine.mapped import DTYPES, mapped_tensors
from openlathe.spi import CheckpointError


def some(dtype: torch.dtype) -> torch.Tensor:
    return torch.arange(12).view(3, 4).to(dtype)


def write(path: Path, header: dict[str, Any], data: bytes) -> Path:
    """A safetensors file whose header is as long as it happens to be."""
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def test_every_type_of_the_format_is_read_as_safetensors_reads_it(tmp_path: Path) -> None:
    source = {str(dtype): some(dtype) for dtype in DTYPES.values()} | {"none": torch.empty(0, 3)}
    save_file(source, tmp_path / "a.safetensors")
    theirs, ours = load_file(tmp_path / "a.safetensors"), dict(mapped_tensors(tmp_path / "a.safetensors"))
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert tensor.dtype == theirs[name].dtype
        assert torch.equal(tensor.float(), theirs[name].float()), name


@pytest.mark.parametrize("spaces", [0, 1, 2, 3])
def test_data_may_begin_at_any_byte(tmp_path: Path, spaces: int) -> None:
    header = {"a" * (spaces + 1): {"dtype": "F32", "shape": [12], "data_offsets": [0, 48]}}
    file = write(tmp_path / "a.safetensors", header, some(torch.float32).numpy().tobytes())
    ((_, tensor),) = mapped_tensors(file)
    assert tensor.tolist() == list(range(12))


@pytest.mark.parametrize(
    "damage",
    [{"shape": [13]}, {"shape": [-12]}, {"shape": None}, {"dtype": "F31"}, {"dtype": "F64"}, {"shape": [3, "4"]}],
)
def test_a_header_that_contradicts_itself_is_refused_by_name(tmp_path: Path, damage: dict[str, Any]) -> None:
    entry = {"dtype": "F32", "shape": [12], "data_offsets": [0, 48], **damage}
    file = write(tmp_path / "a.safetensors", {"w": entry}, bytes(48))
    with pytest.raises(CheckpointError, match="damaged at w; download it again"):
        list(mapped_tensors(file))


def test_what_is_written_to_a_tensor_stays_its_own(tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    save_file({"w": some(torch.float32)}, file)
    ((_, one),) = mapped_tensors(file)
    ((_, other),) = mapped_tensors(file)
    one += 1
    assert torch.equal(one, other + 1)
    assert torch.equal(load_file(file)["w"], other)


@pytest.mark.skipif(sys.platform != "linux", reason="what is in memory is read from /proc")
def test_tensors_that_nobody_holds_leave_memory(tmp_path: Path) -> None:
    file, size = tmp_path / "a.safetensors", 8 << 20
    save_file({name: torch.ones(size // 4) for name in "abcd"}, file)

    def resident() -> int:
        sections = Path("/proc/self/smaps").read_text().split(str(file))[1:]
        return sum(int(section.split("Rss:")[1].split()[0]) for section in sections) * 1024

    kept, most = [], 0
    for name, tensor in mapped_tensors(file):
        assert tensor.sum() == size // 4
        most = max(most, resident())
        if name == "b":
            kept.append(tensor)
        del tensor
    slack = 4 * max(mmap.PAGESIZE, 1 << 16)  # a page at either end, and what the system maps around a fault
    assert size <= most <= 2 * size + slack
    assert size - slack <= resident() <= size + slack
    kept.clear()
    assert resident() <= slack
