"""What ``pytest --pyargs openlathe_sdk.conformance --plugin NAME`` collects."""

from openlathe_sdk.conformance import suite
from openlathe_sdk.pytest_plugin import named_plugins

TestNamed = suite(*named_plugins())
