"""openlathe: an LLM inference engine and OpenAI-compatible server assembled from installed plugins."""
