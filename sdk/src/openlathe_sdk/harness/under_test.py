"""Where and in which dtypes a provider can be tested here; what it does not declare is skipped."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from openlathe.devices import detect
from openlathe.plugins.resolve import load
from openlathe.spi import DeviceFacts, Query, Spec


def device_of(spec: Any) -> torch.device:
    """The accelerator if the provider serves it and there is one, else the processor."""
    served = spec.devices or ("cuda", "cpu")
    for name in served:
        if name == "cpu" or (getattr(torch, name, None) is not None and getattr(torch, name).is_available()):
            return torch.device(name)
    pytest.skip(f"needs {' or '.join(served)}")


def require(declared: Any, value: Any, what: str) -> None:
    """Skips unless ``value`` is among what is ``declared``; an empty tuple means any."""
    if value not in declared and declared != ():
        pytest.skip(f"{what} {value} is not declared")


def facts_of(device: torch.device) -> DeviceFacts:
    return detect(device.type) if device.type in ("cpu", "cuda") else DeviceFacts(type=device.type)


def skip_if_refused(spec: Spec, query: Query) -> None:
    """Skips with the provider's own reasons."""
    if spec.refuse is not None and (reasons := load(spec.refuse)(query)):
        pytest.skip(f"refused: {'; '.join(reasons)}")
