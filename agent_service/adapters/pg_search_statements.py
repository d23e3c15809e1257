"""The SQL of the index: reading.

Which way a search goes is decided by counts (`pg_search`), not by the planner, which knows nothing of the cost of a
distance: each statement here has one sensible plan. `IS NOT DISTINCT FROM` keeps the b-trees out of those that are
to go by another index. Joins take the collection's id from a materialised row: see `pg_statements`.
"""

from __future__ import annotations

COLLECTIONS = """
    SELECT id, text_config, document_count, chunk_count FROM agent.collections
    WHERE id = ANY ($1::uuid[]) AND deleted_at IS NULL
"""
VECTOR_COUNT = "SELECT coalesce(sum(chunk_count), 0)::bigint FROM agent.collections"

# ---- words

# A row for each word and each of its tiers; tier 1 is all that have the word.
QUERY_TERMS = """
    WITH q AS MATERIALIZED (
        SELECT $1::uuid AS collection_id, lexeme, tier,
            CASE tier WHEN 1 THEN key ELSE hashint8extended(key, tier) END AS key
        FROM (
            SELECT lexeme, hashtextextended(lexeme, uuid_hash_extended($1::uuid, 0)) AS key
            FROM unnest(to_tsvector($2::regconfig, $3))
        ) AS words
        CROSS JOIN unnest($4::bigint[]) AS tier
    )
    SELECT q.lexeme, q.tier, q.key, coalesce(t.chunk_count, 0) AS chunk_count
    FROM q LEFT JOIN agent.terms t ON t.collection_id = q.collection_id AND t.term_key = q.key
    ORDER BY q.lexeme, q.tier
"""
# OFFSET 0: or each product would be computed twice, for the condition and for the order.
_RANKED = """
    SELECT chunk_id, score
    FROM (
        SELECT chunk_id, -(weights <#> $2::sparsevec) AS score FROM agent.chunk_terms
        WHERE CONDITION AND document_id <> ALL ($4::uuid[])
        OFFSET 0
    ) AS ranked
    WHERE score > 0 ORDER BY score DESC, chunk_id LIMIT $3
"""
TEXT_OF_ALL = _RANKED.replace("CONDITION", "collection_id = $1")
# Keys are hashes of collection and term; that the collection is compared, too, keeps a collision from telling secrets.
TEXT_OF_ANY = _RANKED.replace("CONDITION", "collection_id IS NOT DISTINCT FROM $1 AND term_keys && $5::bigint[]")
# ---- vectors

_NEAREST = """
    SELECT chunk_id, 1 - distance AS dense, NULL::float8 AS text
    FROM (
        SELECT chunk_id, DISTANCE AS distance FROM agent.chunk_vectors
        WHERE CONDITION AND document_id <> ALL ($5::uuid[])
        ORDER BY DISTANCE LIMIT $4
    ) AS nearest
    ORDER BY distance, chunk_id
"""
_NEAREST_WITH_TEXT = """
    WITH nearest AS MATERIALIZED (
        SELECT collection_id, chunk_id, DISTANCE AS distance FROM agent.chunk_vectors
        WHERE CONDITION AND document_id <> ALL ($5::uuid[])
        ORDER BY DISTANCE LIMIT $4
    )
    SELECT n.chunk_id, 1 - n.distance AS dense, -(t.weights <#> $6::sparsevec) AS text
    FROM nearest n JOIN agent.chunk_terms t ON t.collection_id = n.collection_id AND t.chunk_id = n.chunk_id
    ORDER BY n.distance, n.chunk_id
"""


def _of_all(statement: str) -> str:
    # Without the cast that the indexes have: every vector of the collection is compared.
    return statement.replace("DISTANCE", "embedding <=> $3").replace(
        "CONDITION", "collection_id = $1 AND model_id = $2"
    )


def _by_graph(statement: str) -> str:
    condition = "dimensions = SIZE AND collection_id IS NOT DISTINCT FROM $1 AND model_id IS NOT DISTINCT FROM $2"
    distance = "(embedding::halfvec(SIZE)) <=> $3::halfvec(SIZE)"
    return statement.replace("DISTANCE", distance).replace("CONDITION", condition)


VECTORS_OF_ALL = _of_all(_NEAREST)
VECTORS_OF_ALL_WITH_TEXT = _of_all(_NEAREST_WITH_TEXT)
VECTORS_BY_GRAPH = _by_graph(_NEAREST)
VECTORS_BY_GRAPH_WITH_TEXT = _by_graph(_NEAREST_WITH_TEXT)

# The hashes of texts are as good as dice, and fall the same way each time.
SAMPLE = """
    SELECT chunk_id FROM agent.chunk_vectors WHERE collection_id = $1 AND model_id = $2 ORDER BY text_hash LIMIT $3
"""
# The sample, which is the first $5 of the ids, as one row without an id.
LIKENESS = """
    WITH wanted AS MATERIALIZED (
        SELECT $1::uuid AS collection_id, chunk_id, number <= $5 AS is_sample
        FROM unnest($4::uuid[]) WITH ORDINALITY AS each(chunk_id, number)
    ), near AS MATERIALIZED (
        SELECT w.chunk_id, w.is_sample, 1 - (v.embedding <=> $3) AS cosine
        FROM wanted w JOIN agent.chunk_vectors v ON v.collection_id = w.collection_id AND v.chunk_id = w.chunk_id
        WHERE v.model_id IS NOT DISTINCT FROM $2
    )
    SELECT NULL AS chunk_id, coalesce(avg(cosine), 0) AS cosine, coalesce(stddev_pop(cosine), 0) AS deviation
    FROM near WHERE is_sample
    UNION ALL
    SELECT chunk_id, cosine, NULL FROM near WHERE NOT is_sample
"""

# ---- passages

PASSAGES = """
    SELECT c.collection_id, c.document_id, d.name, c.id, c.position, c.text, c.heading, c.page, c.start_char, c.end_char
    FROM unnest($1::uuid[], $2::uuid[]) AS hit(collection_id, chunk_id)
    JOIN agent.chunks c ON c.collection_id = hit.collection_id AND c.id = hit.chunk_id
    JOIN agent.documents d ON d.collection_id = c.collection_id AND d.id = c.document_id
"""
LIVING_DOCUMENT = """
    SELECT FROM agent.documents d JOIN agent.collections c ON c.id = d.collection_id
    WHERE d.collection_id = $1 AND d.id = $2 AND d.deleted_at IS NULL AND c.deleted_at IS NULL
"""
CHUNKS = """
    SELECT id, position, text, heading, page, start_char, end_char FROM agent.chunks
    WHERE collection_id = $1 AND document_id = $2 AND position > $3 ORDER BY position LIMIT $4
"""
