from openlathe_sdk.conformance import suite

TestInt8 = suite("openlathe-plugin-int8")
