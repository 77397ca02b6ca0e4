"""The two pluggy markers and the names that tie every plugin to this major version of the contract."""

from __future__ import annotations

import pluggy

PROJECT = "openlathe"
#: The entry-point group plugins register in; a breaking change of the contract gets a new group.
ENTRY_POINT_GROUP = "openlathe.v1"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)
