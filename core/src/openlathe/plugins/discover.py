"""Finding plugins: the entry points of installed distributions, read from their metadata; nothing is imported."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import metadata

from ..spi.markers import ENTRY_POINT_GROUP

CORE = "openlathe-core"
_GROUP = re.compile(r"openlathe\.v\d+")


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One entry point that claims to be a plugin; ``requires`` are the requirement strings of its distribution."""

    name: str
    value: str
    group: str
    distribution: str
    version: str
    origin: str
    requires: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """Unique, whatever entry-point names other distributions claim."""
        return f"{self.distribution}:{self.name}"


def discover() -> list[Candidate]:
    """Every candidate of every major version of the contract, sorted, so that the order of the disk never matters."""
    seen: set[str] = set()
    candidates: list[Candidate] = []
    for distribution in metadata.distributions():
        text = distribution.read_text("entry_points.txt")
        if not text or "openlathe.v" not in text:
            continue
        found = list(_candidates(distribution))
        if found and found[0].distribution not in seen:  # a distribution further down sys.path is shadowed
            seen.add(found[0].distribution)
            candidates += found
    return sorted(candidates, key=lambda candidate: (candidate.distribution, candidate.name))


def normalise(distribution: str) -> str:
    """The one spelling under which package installers compare names of distributions (PEP 503)."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


def core_version() -> str:
    return installed_version(CORE) or "0"


@cache
def installed_version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def unmet(requirement: str) -> str | None:
    """Why a PEP 508 requirement does not hold in this environment, as a short clause; None where it does."""
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        wanted = Requirement(requirement)
    except InvalidRequirement:
        return f"{requirement!r} is no valid requirement"
    if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
        return None
    found = installed_version(wanted.name)
    if found is None:
        return f"{wanted.name}{wanted.specifier} is not installed"
    if not wanted.specifier.contains(found, prereleases=True):
        return f"{wanted.name}{wanted.specifier} is required and {found} is installed"
    return None


def incompatibility(candidate: Candidate) -> str | None:
    """Why this core must not even import the plugin, with the numbers of both; None where it may."""
    if candidate.group != ENTRY_POINT_GROUP:
        return f"it is written for {candidate.group}, and openlathe-core {core_version()} speaks {ENTRY_POINT_GROUP}"
    for requirement in candidate.requires:
        if normalise(re.split(r"[^\w.-]", requirement, maxsplit=1)[0]) != CORE or not re.search("[<>=~]", requirement):
            continue
        if problem := unmet(requirement):
            return problem
    return None


def _candidates(distribution: metadata.Distribution) -> Iterator[Candidate]:
    about = distribution.metadata
    if not about or "Name" not in about:
        return
    origin = _origin(distribution.read_text("direct_url.json"))
    for entry_point in distribution.entry_points:
        if _GROUP.fullmatch(entry_point.group):
            yield Candidate(
                name=entry_point.name,
                value=entry_point.value,
                group=entry_point.group,
                distribution=normalise(about["Name"]),
                version=about["Version"] or "0",
                origin=origin,
                requires=tuple(about.get_all("Requires-Dist") or ()),
            )


def _origin(direct_url: str | None) -> str:
    """``index``, ``editable``, ``path``, ``vcs`` or ``url``, from the record that installers leave (PEP 610)."""
    if not direct_url:
        return "index"
    try:
        record = json.loads(direct_url)
    except ValueError:
        return "url"
    if record.get("dir_info", {}).get("editable"):
        return "editable"
    if "vcs_info" in record:
        return "vcs"
    return "path" if str(record.get("url", "")).startswith("file:") else "url"
