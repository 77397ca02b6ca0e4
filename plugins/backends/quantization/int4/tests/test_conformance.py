from openlathe_sdk.conformance import suite

TestInt4 = suite("openlathe-plugin-int4")
