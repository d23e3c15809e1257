"""pgvector's `halfvec` on the wire: the number of dimensions, two bytes of nothing, big-endian 16-bit floats."""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterable, Sequence

import asyncpg

from agent_service.ports.embedder import Vector

_HEADER = struct.Struct(">HH")


def encode_halfvec(vector: Sequence[float]) -> bytes:
    return struct.pack(f">HH{len(vector)}e", len(vector), 0, *vector)


def encode_halfvecs(vectors: Iterable[Sequence[float]]) -> list[bytes]:
    """For a parameter that is an array: the driver would take vectors in it for further dimensions of the array."""
    return [encode_halfvec(vector) for vector in vectors]


def _encode(value: Sequence[float] | bytes) -> bytes:
    return value if isinstance(value, bytes) else encode_halfvec(value)


def decode_halfvec(data: bytes) -> Vector:
    dimensions, _ = _HEADER.unpack_from(data)
    return array("f", struct.unpack_from(f">{dimensions}e", data, _HEADER.size))


async def register_vectors(connection: asyncpg.Connection) -> None:
    """Vectors travel as numbers: a parameter that is text would be parsed again for every row it meets."""
    await connection.set_type_codec(
        "halfvec", schema="public", encoder=_encode, decoder=decode_halfvec, format="binary"
    )
    # Sparse vectors are parameters only, one for a search, and PostgreSQL makes those that it keeps.
    await connection.set_type_codec("sparsevec", schema="public", encoder=str, decoder=str, format="text")
