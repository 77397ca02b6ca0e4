from openlathe_sdk.conformance import suite

TestConformance = suite("openlathe-plugin-eval")
