"""The engine: what runs between a request's token ids and its output's token ids."""

import os

# Every token reads all weights once, in small pages mostly waiting for address translation. torch asks for huge pages
# if told so before its first allocation, hence here; a value that is set already stays.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
