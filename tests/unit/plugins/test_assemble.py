"""Whatever is wrong with one plugin is reported as its state and disturbs none of the rest."""

from __future__ import annotations

import sys

import pytest

from openlathe.plugins.assemble import listing
from openlathe.plugins.registry import State
from openlathe.spi import AmbiguousProvider, PluginError, ProviderNotFound


def names(registry, kind="tool-parser"):
    return [provider.qualified_name for provider in registry.providers(kind)]


def test_core_registers_like_any_other_plugin(site, plugin):
    registry = site.assemble()
    core = plugin(registry, "openlathe-core")
    assert core.state is State.ACTIVE
    assert registry.get("executor", "uniproc").distribution == "openlathe-core"
    assert registry.get("executor", "uni") == registry.get("executor", "uniproc")


def test_a_provider_knows_where_it_came_from(site):
    url = {"url": "file:///home/acme/parsers", "dir_info": {"editable": True}}
    site.add_parser("acme-parsers", version="2.1", direct_url=url)
    provider = site.assemble().get("tool-parser", "acme")
    assert (provider.distribution, provider.version, provider.origin) == ("acme-parsers", "2.1", "editable")
    assert provider.plugin == "acme-parsers:plugin"


@pytest.mark.parametrize(
    ("record", "origin"),
    [
        (None, "index"),
        ({"url": "file:///acme", "dir_info": {}}, "path"),
        ({"url": "file:///acme-1.0-py3-none-any.whl", "archive_info": {}}, "path"),
        ({"url": "https://example.org/acme.whl", "archive_info": {}}, "url"),
        ({"url": "https://example.org/acme.git", "vcs_info": {"vcs": "git", "commit_id": "c0ffee"}}, "vcs"),
    ],
)
def test_origin_is_what_the_installer_recorded(site, plugin, record, origin):
    site.add_parser("acme", direct_url=record)
    assert plugin(site.assemble(), "acme").origin == origin


def test_equal_entry_point_names_of_two_distributions_both_load(site):
    site.add_parser("acme-one", "one")
    site.add_parser("acme-two", "two")
    assert names(site.assemble()) == ["acme-one/one", "acme-two/two"]


FAULTS = {
    "import": ("raise RuntimeError('no licence server')", "import failed with RuntimeError: no licence server"),
    "exit": ("raise SystemExit(3)", "import failed with SystemExit"),
    "missing module": ("import acme_no_such_module", "No module named 'acme_no_such_module'"),
    "hook raises": (
        "@hookimpl\ndef openlathe_tool_parsers():\n    raise ValueError('bad day')",
        "openlathe_tool_parsers failed with ValueError: bad day",
    ),
    "hook raises half way": (
        "@hookimpl\ndef openlathe_tool_parsers():\n    yield ToolParserSpec(name='half', target='a:b')\n    1 / 0",
        "openlathe_tool_parsers failed with ZeroDivisionError",
    ),
    "misspelt hook": (
        "@hookimpl\ndef openlathe_tool_parser():\n    return []",
        "openlathe_tool_parser is no hook; did you mean openlathe_tool_parsers?",
    ),
    "unknown argument": ("@hookimpl\ndef openlathe_configure(settings):\n    pass", "settings"),
    "class as target": (
        "class Parser: ...\n\n@hookimpl\ndef openlathe_tool_parsers():\n"
        "    yield ToolParserSpec(name='acme', target=Parser)",
        "pass 'package.module:attribute' as a string",
    ),
    "illegal name": (
        "@hookimpl\ndef openlathe_tool_parsers():\n    yield ToolParserSpec(name='Acme!', target='a:b')",
        "has the name 'Acme!'",
    ),
    "no spec": (
        "@hookimpl\ndef openlathe_tool_parsers():\n    return ['acme']",
        "returned 'acme', which is no ToolParserSpec",
    ),
    "spec of another kind": (
        "@hookimpl\ndef openlathe_tool_parsers():\n    yield ReasoningParserSpec(name='acme', target='a:b')",
        "which is no ToolParserSpec",
    ),
    "one name twice": (
        "@hookimpl\ndef openlathe_tool_parsers():\n    yield ToolParserSpec(name='acme', target='a:b')\n"
        "    yield ToolParserSpec(name='acme', target='a:c')",
        "returned two specs named 'acme'",
    ),
    "wrapper": (
        "@hookimpl(wrapper=True)\ndef openlathe_tool_parsers():\n    return (yield)",
        "openlathe_tool_parsers is a wrapper",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_broken_plugin_costs_itself_only(site, plugin, fault):
    source, reason = FAULTS[fault]
    site.add("a-broken", source)
    site.add_parser("b-sound", "sound")
    registry = site.assemble()
    broken = plugin(registry, "a-broken")
    assert broken.state is State.BROKEN
    assert reason in broken.reason
    assert "\n" not in broken.reason
    assert names(registry) == ["b-sound/sound"]
    assert any("a-broken:plugin is broken" in problem for problem in registry.problems())


def test_a_broken_plugin_keeps_its_traceback(site, plugin):
    site.add("acme", "def deep():\n    raise RuntimeError('down here')\n\ndeep()")
    assert "in deep" in plugin(site.assemble(), "acme").traceback


def test_a_broken_plugin_answers_no_events_either(site):
    source = (
        "@hookimpl\ndef openlathe_select_provider(kind):\n    return 'mine'\n\n@hookimpl\ndef openlathe_oops(): ..."
    )
    site.add("acme", source)
    assert site.assemble().ask("openlathe_select_provider", kind="x", query=None, candidates=()) == []


def test_a_plugin_that_imports_heavily_to_register_is_objected_to(site, plugin, monkeypatch):
    (site.folder / "transformers.py").touch()  # a stand-in, before the real one on sys.path
    monkeypatch.delitem(sys.modules, "transformers", raising=False)
    site.add("acme", "import transformers")
    registry = site.assemble()
    monkeypatch.delitem(sys.modules, "transformers")
    assert plugin(registry, "acme").heavy == ("transformers",)
    assert any("acme:plugin imports transformers to register" in problem for problem in registry.problems())


def test_two_entry_points_to_one_module(site):
    """pluggy takes a module once only; the second entry point is told so, the first works."""
    points = {"first": "{package}.plugin", "second": "{package}.plugin"}
    site.add_parser("acme", entry_points=points)
    registry = site.assemble()
    assert names(registry) == ["acme/acme"]
    assert [record.state for record in registry.plugins if record.distribution == "acme"] == ["active", "broken"]


def test_another_major_version_is_seen_and_not_imported(site, plugin):
    package = site.add("acme", "raise RuntimeError('imported')", group="openlathe.v2")
    record = plugin(site.assemble(), "acme")
    assert record.state is State.INCOMPATIBLE
    assert "openlathe.v2" in record.reason
    assert "openlathe.v1" in record.reason
    assert f"{package}.plugin" not in sys.modules


def test_a_core_that_is_too_old_is_named_with_both_versions(site, plugin):
    package = site.add_parser("acme", requires=("openlathe-core[engine]>=99,<100",))
    record = plugin(site.assemble(), "acme")
    assert record.state is State.INCOMPATIBLE
    assert ">=99" in record.reason
    assert "0.1.0" in record.reason
    assert f"{package}.plugin" not in sys.modules


def test_a_core_that_fits_is_no_objection(site, plugin):
    site.add_parser("acme", requires=("openlathe-core>=0.0.1,<99", "openlathe-core-unrelated>=7"))
    assert plugin(site.assemble(), "acme").state is State.ACTIVE


def test_an_unknown_protocol_version_costs_that_spec_only(site, plugin):
    old = "ToolParserSpec(name='future', target='a:b', api=7)"
    site.add_specs("acme", "openlathe_tool_parsers", old, "ToolParserSpec(name='present', target='a:b')")
    registry = site.assemble()
    assert plugin(registry, "acme").state is State.ACTIVE
    assert names(registry) == ["acme/present"]
    with pytest.raises(ProviderNotFound, match="version 7 of the tool-parser protocol and core speaks 1"):
        registry.get("tool-parser", "future")


def test_a_missing_requirement_is_told_with_the_authors_hint(site, plugin):
    spec = "ToolParserSpec(name='acme', target='a:b', requires=('acme-gpu>=2',), install_hint='ask sales@acme')"
    site.add_specs("acme", "openlathe_tool_parsers", spec)
    registry = site.assemble()
    record = plugin(registry, "acme")
    assert record.state is State.UNAVAILABLE
    assert record.reason == "acme-gpu>=2 is not installed; ask sales@acme"
    with pytest.raises(ProviderNotFound, match="unavailable: acme-gpu>=2 is not installed; ask sales@acme"):
        registry.get("tool-parser", "acme")


@pytest.mark.parametrize(
    ("requirement", "met"), [("pluggy>=1", True), ("pluggy>=99", False), ("x; python_version<'3'", True)]
)
def test_requirements_are_checked_from_metadata(site, plugin, requirement, met):
    site.add_specs(
        "acme", "openlathe_tool_parsers", f"ToolParserSpec(name='acme', target='a:b', requires=({requirement!r},))"
    )
    assert plugin(site.assemble(), "acme").state == ("active" if met else "unavailable")


# -- names --------------------------------------------------------------------------------------------------------


def test_an_ambiguous_name_is_an_error_only_when_it_is_asked_for(site):
    site.add_parser("acme-one", version="1.5")
    site.add_parser("acme-two", version="2.5")
    site.add_parser("other", "other")
    registry = site.assemble()
    assert registry.get("tool-parser", "other").distribution == "other"
    with pytest.raises(AmbiguousProvider) as caught:
        registry.get("tool-parser", "acme")
    for word in ("acme-one 1.5", "acme-two 2.5", "--prefer tool-parser.acme=acme-one", "acme-one/acme"):
        assert word in str(caught.value)
    assert [(kind, name) for kind, name, _ in registry.ambiguous()] == [("tool-parser", "acme")]


def test_a_qualified_name_always_means_one(site):
    site.add_parser("acme-one")
    site.add_parser("Acme_Two")
    registry = site.assemble(allow=None)
    assert registry.get("tool-parser", "acme-two/acme").distribution == "acme-two"
    assert registry.get("tool-parser", "Acme_Two/acme").distribution == "acme-two"


def test_a_preference_settles_it(site):
    site.add_parser("acme-one")
    site.add_parser("acme-two")
    registry = site.assemble(prefer={"tool-parser.acme": "acme-two"})
    assert registry.get("tool-parser", "acme").distribution == "acme-two"
    assert registry.ambiguous() == []


def test_a_preference_for_what_is_not_installed_settles_nothing(site):
    site.add_parser("acme-one")
    site.add_parser("acme-two")
    with pytest.raises(AmbiguousProvider):
        site.assemble(prefer={"tool-parser.acme": "elsewhere"}).get("tool-parser", "acme")


def test_aliases_share_the_names_of_their_kind(site):
    site.add_specs(
        "acme-one", "openlathe_tool_parsers", "ToolParserSpec(name='one', target='a:b', aliases=('shared',))"
    )
    site.add_parser("acme-two", "shared")
    registry = site.assemble()
    assert registry.get("tool-parser", "one").distribution == "acme-one"
    with pytest.raises(AmbiguousProvider):
        registry.get("tool-parser", "shared")
    prefer = {"tool-parser.shared": "acme-one"}
    assert site.assemble(prefer=prefer).get("tool-parser", "shared").distribution == "acme-one"


def test_one_distribution_that_provides_a_name_twice(site):
    """Neither a preference nor the qualified name can choose here; blocking one of the plugins can."""
    source = (
        "from openlathe.spi import *\n\n@hookimpl\ndef openlathe_tool_parsers():\n    yield "
        + "ToolParserSpec(name='acme', target='a:b')"
    )
    package = site.add(
        "acme", source.partition("\n\n")[2], entry_points={"x": "{package}.plugin", "y": "{package}.other"}
    )
    (site.folder / package / "other.py").write_text(source)
    registry = site.assemble()
    with pytest.raises(AmbiguousProvider, match="block one with --block-plugins acme:x"):
        registry.get("tool-parser", "acme")
    assert site.assemble(block=frozenset({"acme:x"})).get("tool-parser", "acme").plugin == "acme:y"


def test_an_unknown_name_is_answered_with_a_guess(site):
    site.add_parser("acme", "hermes")
    registry = site.assemble()
    with pytest.raises(ProviderNotFound, match="did you mean 'hermes'"):
        registry.get("tool-parser", "hermse")
    with pytest.raises(ProviderNotFound, match="installed: hermes"):
        registry.get("tool-parser", "entirely-different")


def test_a_shadowed_distribution_is_not_read(site, tmp_path, monkeypatch, plugin):
    """The same distribution twice on sys.path: the first is what an import would find."""
    site.add_parser("acme", version="1.0")
    other = type(site)(tmp_path / "other")
    other.folder.mkdir()
    other.add_parser("acme", "other", version="2.0")
    monkeypatch.syspath_prepend(str(other.folder))
    assert plugin(site.assemble(), "acme").version == "2.0"


# -- without importing --------------------------------------------------------------------------------------------


def test_a_listing_imports_no_plugin(site, plugin):
    package = site.add("acme", "raise RuntimeError('imported')")
    assert plugin(listing(), "acme").state is State.ACTIVE
    assert package not in sys.modules


def test_hooks_are_handed_the_arguments_they_declare(site):
    site.add("acme", "@hookimpl\ndef openlathe_select_provider(kind):\n    return kind.upper()")
    registry = site.assemble()
    assert registry.ask("openlathe_select_provider", kind="x", query=1, candidates=()) == [("acme:plugin", "X")]


def test_a_hook_that_raises_is_named(site):
    site.add("acme", "@hookimpl\ndef openlathe_configure(config):\n    raise KeyError('nope')")
    with pytest.raises(PluginError, match="openlathe_configure of the plugin acme:plugin failed"):
        site.assemble().ask("openlathe_configure", config={})
