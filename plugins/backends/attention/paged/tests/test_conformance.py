from openlathe_sdk.conformance import suite

TestPaged = suite("openlathe-plugin-paged")
