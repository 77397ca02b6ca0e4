from openlathe_sdk.conformance import suite

TestDemo = suite("openlathe-plugin-demo")
