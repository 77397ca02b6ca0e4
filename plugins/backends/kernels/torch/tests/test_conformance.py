from openlathe_sdk.conformance import suite

TestTorch = suite("openlathe-plugin-torch")
