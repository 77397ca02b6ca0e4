"""A lock file admits what it describes and nothing else, by version, origin and content."""

from __future__ import annotations

import json
import sys

import pytest

from openlathe.plugins.assemble import assemble, loadable
from openlathe.plugins.discover import discover
from openlathe.plugins.lock import write_lock
from openlathe.plugins.policy import Policy
from openlathe.spi import ConfigError, PluginError

FILE = "x.lock"


@pytest.fixture
def policy(site, tmp_path):
    """What the site held when it was locked."""
    site.add_parser("acme", "one")
    policy = Policy(allow=frozenset({"acme", "acme-late"}), locked=str(tmp_path / FILE))
    write_lock(tmp_path / FILE, loadable(policy, discover()))
    return policy


def refused(policy, words):
    with pytest.raises(PluginError, match=words):
        assemble(policy)


def test_what_was_locked_loads(policy):
    assert assemble(policy).get("tool-parser", "one").distribution == "acme"


def test_compiled_files_make_no_difference(policy, site):
    folder = next(site.folder.glob("throwaway_*"))
    (folder / "__pycache__").mkdir(exist_ok=True)
    (folder / "__pycache__" / "plugin.pyc").write_bytes(b"x")
    assemble(policy)


def test_changed_content_is_refused_before_it_is_imported(policy, site):
    file = next(site.folder.glob("throwaway_*/plugin.py"))
    file.write_text("raise RuntimeError('imported')")
    refused(policy, "acme 1.0 has other content than when it was locked")
    assert f"{file.parent.name}.plugin" not in sys.modules


def test_another_distribution_is_refused(policy, site):
    site.add_parser("acme-late", "late")
    refused(policy, "acme-late is installed and not in the lock file")


def test_another_version_or_origin_is_refused(policy, site):
    info = next(site.folder.glob("acme-*.dist-info"))
    (info / "direct_url.json").write_text(json.dumps({"url": "file:///acme.whl", "archive_info": {}}))
    refused(policy, "locked as installed from 'index' and comes from 'path'")
    metadata = (info / "METADATA").read_text()
    (info / "METADATA").write_text(metadata.replace("Version: 1.0", "Version: 1.1"))
    refused(policy, "locked at 1.0 and 1.1 is installed")


def test_a_missing_distribution_is_refused(policy):
    import dataclasses

    refused(dataclasses.replace(policy, allow=frozenset()), "acme 1.0 is in the lock file and would not be loaded")


def test_editable_installations_are_locked_by_their_files(site, tmp_path):
    url = {"url": "file:///acme", "dir_info": {"editable": True}}
    package = site.add_parser("acme", direct_url=url)
    policy = Policy(allow=frozenset({"acme"}), locked=str(tmp_path / FILE))
    write_lock(tmp_path / FILE, loadable(policy, discover()))
    (site.folder / package / "data.json").write_text("{}")
    refused(policy, "acme 1.0 has other content")


@pytest.mark.parametrize("content", ["", "[]", '{"schema": 99, "distributions": {}}'])
def test_a_file_that_is_no_lock(tmp_path, content):
    (tmp_path / FILE).write_text(content)
    with pytest.raises(ConfigError, match="--locked"):
        assemble(Policy(locked=str(tmp_path / FILE)))
