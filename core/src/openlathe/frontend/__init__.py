"""Between text and tokens: chat templates, tokenising, detokenising, stop strings and parsing. Never imports torch."""
