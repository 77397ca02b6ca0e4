from openlathe_sdk.conformance import suite

TestQwen3 = suite("openlathe-plugin-qwen3")
