"""Who may load: flags beat the file, the file beats the environment, and distributions are what is named."""

from __future__ import annotations

import sys

import pytest

from openlathe.plugins.policy import Policy, read_policy
from openlathe.plugins.registry import State
from openlathe.spi import ConfigError, PluginError


def read(*argv, env=None, section=None):
    return read_policy(argv, env or {}, section)


def test_nothing_said_loads_everything():
    assert read() == (Policy(), [])


def test_flags_are_taken_out_wherever_they_stand():
    argv = [
        "serve",
        "M",
        "--plugins",
        "a,b",
        "--port",
        "1",
        "--no-plugins",
        "--block-plugins=c",
        "--",
        "--plugins",
        "x",
    ]
    policy, rest = read(*argv)
    assert rest == ["serve", "M", "--port", "1", "--", "--plugins", "x"]
    assert policy.block == {"c"}
    assert not policy.autoload


def test_names_are_compared_as_installers_compare_them():
    policy, _ = read("--plugins", "Acme_Parsers, other.one", "--block-plugins", "Acme_X:Entry_Point")
    assert policy.allow == {"acme-parsers", "other-one"}
    assert policy.block == {"acme-x:Entry_Point"}


def test_flag_beats_file_beats_environment():
    env = {
        "OPENLATHE_PLUGINS": "from-env",
        "OPENLATHE_BLOCK_PLUGINS": "from-env",
        "OPENLATHE_REQUIRE_PLUGINS": "from-env",
    }
    section = {"allow": ["from-file"], "block": "from-file"}
    policy, _ = read("--plugins", "from-flag", env=env, section=section)
    assert policy.allow == {"from-flag"}
    assert policy.block == {"from-file"}
    assert policy.require == ("from-env",)


@pytest.mark.parametrize("value", ["1", "true", "yes"])
def test_autoload_can_be_switched_off_in_the_environment(value):
    assert not read(env={"OPENLATHE_DISABLE_PLUGIN_AUTOLOAD": value})[0].autoload
    assert read(env={"OPENLATHE_DISABLE_PLUGIN_AUTOLOAD": "0"})[0].autoload


def test_an_empty_allow_list_allows_nothing():
    assert read(env={"OPENLATHE_PLUGINS": ""})[0].allow == frozenset()


def test_preferences_of_flags_override_those_of_the_file():
    section = {"prefer": {"tool-parser.a": "x", "tool-parser.b": "y"}}
    policy, _ = read("--prefer", "tool-parser.b=Z", section=section)
    assert policy.prefer == {"tool-parser.a": "x", "tool-parser.b": "z"}


@pytest.mark.parametrize("flag", ["tool-parser", "tool-parser.a", "a=b", "tool-parser.a="])
def test_a_preference_that_is_not_understood(flag):
    with pytest.raises(ConfigError, match=r"KIND\.NAME=DISTRIBUTION"):
        read("--prefer", flag)


def test_an_unknown_setting_of_the_file():
    with pytest.raises(ConfigError, match="no 'alow'"):
        read(section={"alow": []})


def test_locked_takes_a_lock_file_and_never_the_model():
    assert read("serve", "--locked", "M")[0].locked == "openlathe.lock"
    assert read("serve", "--locked", "M")[1] == ["serve", "M"]
    assert read("serve", "--locked", "x.lock", "M") == (Policy(locked="x.lock"), ["serve", "M"])
    assert read("--locked=any/file")[0].locked == "any/file"


# -- what it does -------------------------------------------------------------------------------------------------


def states(registry):
    return {record.distribution: record.state for record in registry.plugins if record.distribution.startswith("acme")}


def test_what_is_not_allowed_is_not_imported(site):
    site.add_parser("acme-one", "one")
    package = site.add("acme-two", "raise RuntimeError('imported')")
    registry = site.assemble(allow=frozenset({"acme-one"}))
    assert states(registry) == {"acme-one": State.ACTIVE, "acme-two": State.DISABLED}
    assert package not in sys.modules
    assert not any("acme-two" in problem for problem in registry.problems())


def test_an_entry_point_name_lets_nobody_in(site):
    """Any package can claim an entry-point name, so the allow-list compares distributions."""
    site.add_parser("acme-evil", entry_points={"trusted": "{package}.plugin"})
    assert states(site.assemble(allow=frozenset({"trusted"}))) == {"acme-evil": State.DISABLED}


def test_a_distribution_or_one_of_its_plugins_can_be_blocked(site):
    points = {"x": "{package}.plugin", "y": "{package}.plugin"}
    site.add_parser("acme", entry_points=points)
    states_of = [
        record.state for record in site.assemble(block=frozenset({"acme:y"})).plugins if record.distribution == "acme"
    ]
    assert states_of == [State.ACTIVE, State.DISABLED]
    assert states(site.assemble(block=frozenset({"acme"}))) == {"acme": State.DISABLED}


def test_core_cannot_be_locked_out(site):
    registry = site.assemble(autoload=False, allow=None, block=frozenset({"openlathe-core"}))
    assert [record.distribution for record in registry.plugins if record.state is State.ACTIVE] == ["openlathe-core"]


def test_a_required_plugin_that_is_broken_or_missing(site):
    site.add("acme", "1 / 0")
    registry = site.assemble(require=("acme", "elsewhere"))
    with pytest.raises(PluginError, match="acme is required and broken: its import failed with ZeroDivisionError"):
        registry.ensure_required()
    assert "elsewhere is required and not installed." in registry.problems()
