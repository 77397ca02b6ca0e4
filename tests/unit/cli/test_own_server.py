"""What a server that a command starts is told."""

from openlathe.cli.own_server import settings_of
from openlathe.config import EngineConfig
from openlathe.plugins.policy import Policy


def test_it_is_given_what_differs_from_the_defaults():
    config = EngineConfig(model="m", max_model_len=512, override_generation_config={"temperature": 0})
    policy = Policy(autoload=False, allow=frozenset({"b", "a"}), block=frozenset({"c"}), prefer={"kernel.x": "a"})
    assert settings_of(config, policy) == {
        "model": "m",
        "max_model_len": 512,
        "override_generation_config": {"temperature": 0},
        "plugins": {"autoload": False, "allow": ["a", "b"], "block": ["c"], "require": [], "prefer": {"kernel.x": "a"}},
    }
