"""The SQL of the index: writing. Values travel as parameters, always.

Words become numbers here, in PostgreSQL, which has them already: a term's key is a 64-bit hash of the lexeme, seeded by
the collection, and its place in a sparse vector is that key within the billion that pgvector allows. Two words of a
query that meet in one place are a matter of 1 in 10^7.

A term that a passage has often has further keys there, one for each of `TIERS` that it reaches: so the passages that
stand out for a common word are found without going through all that have it.

Before PostgreSQL has counted a new collection, it takes it for empty, and would join its tables by comparing every row
with every other: ten thousand passages take minutes then. So a join gets the collection's id from a row that was
materialised, never from a parameter, and can only go by the index over both columns; and a model's id, by which an
index can look as well, is compared in a way that no index can.
"""

from __future__ import annotations

from agent_service.domain.bm25 import TIERS

# ---- collections and documents

MAKE_COLLECTION = """
    INSERT INTO agent.collections (id, owner_id, text_config) VALUES ($1, $2, $3) ON CONFLICT (id) DO NOTHING
"""
COLLECTION = "SELECT text_config, weighted_mean_length, deleted_at FROM agent.collections WHERE id = $1"
# Not FOR UPDATE: the rows of its documents hold a share of the key until their transactions end.
LOCK_COLLECTION = COLLECTION + " FOR NO KEY UPDATE"

DOCUMENT = "SELECT version, name, chunk_count, deleted_at FROM agent.documents WHERE collection_id = $1 AND id = $2"
LOCK_DOCUMENT = DOCUMENT + " FOR NO KEY UPDATE"
MAKE_DOCUMENT = """
    INSERT INTO agent.documents (collection_id, id, version, name, chunk_count, deleted_at)
    VALUES ($1, $2, $3, $4, 0, now()) ON CONFLICT (collection_id, id) DO NOTHING
"""
"""Dead until it is written: whoever makes the row has the same way before them as whoever finds one."""

WRITE_DOCUMENT = """
    UPDATE agent.documents SET version = $3, name = $4, chunk_count = $5, indexed_at = now(), deleted_at = NULL
    WHERE collection_id = $1 AND id = $2
"""
BURY_DOCUMENT = """
    UPDATE agent.documents
    SET version = $3, name = '', chunk_count = 0, deleted_at = coalesce(deleted_at, now())
    WHERE collection_id = $1 AND id = $2
"""
DOCUMENT_CHUNKS = """
    WITH c AS MATERIALIZED (
        SELECT collection_id, id, position, heading, page, start_char, end_char
        FROM agent.chunks WHERE collection_id = $1 AND document_id = $2
    )
    SELECT v.text_hash, c.heading, c.page, c.start_char, c.end_char
    FROM c JOIN agent.chunk_vectors v ON v.collection_id = c.collection_id AND v.chunk_id = c.id
    WHERE v.model_id IS NOT DISTINCT FROM $3
    ORDER BY c.position
"""

# ---- vectors of texts

KNOWN_TEXTS = """
    SELECT t.text_hash FROM unnest($2::bytea[]) AS t(text_hash)
    CROSS JOIN LATERAL (
        SELECT FROM agent.embedded_texts e WHERE e.model_id = $1 AND e.text_hash = t.text_hash
        UNION ALL
        SELECT FROM agent.chunk_vectors v WHERE v.text_hash = t.text_hash AND v.model_id IS NOT DISTINCT FROM $1
        LIMIT 1
    ) AS known
"""
# In one order for everybody: two puts of the same texts must not wait for each other in a ring.
KEEP_VECTORS = """
    INSERT INTO agent.embedded_texts (model_id, text_hash, embedding)
    SELECT $1, * FROM unnest($2::bytea[], $3::halfvec[]) AS t(text_hash, embedding)
    ORDER BY text_hash
    ON CONFLICT (model_id, text_hash) DO NOTHING
"""
FORGET_KEPT = """
    DELETE FROM agent.embedded_texts e
    USING (
        SELECT model_id, text_hash FROM agent.embedded_texts
        WHERE model_id = $1 AND text_hash = ANY ($2::bytea[])
        FOR UPDATE SKIP LOCKED
    ) AS used
    WHERE e.model_id = used.model_id AND e.text_hash = used.text_hash
"""
FORGET_OLD = """
    DELETE FROM agent.embedded_texts
    WHERE (model_id, text_hash) IN (
        SELECT model_id, text_hash FROM agent.embedded_texts
        WHERE created_at < now() - interval '7 days' ORDER BY created_at LIMIT 1000
        FOR UPDATE SKIP LOCKED
    )
"""

# ---- publishing

HOLD_MODEL = """
    SELECT m.dimensions FROM agent.index_state s JOIN agent.embedding_models m ON m.id = s.model_id
    WHERE s.model_id = $1 FOR SHARE OF s
"""
"""While this transaction is open, the index cannot be given to another model."""

DROP_CHUNKS = "DELETE FROM agent.chunks WHERE collection_id = $1 AND document_id = $2 RETURNING id"
ADD_CHUNKS = """
    INSERT INTO agent.chunks (collection_id, document_id, id, position, text, heading, page, start_char, end_char)
    SELECT $1, $2, * FROM unnest(
        $3::uuid[], $4::integer[], $5::text[], $6::text[], $7::integer[], $8::integer[], $9::integer[]
    )
"""
# From where they are known: vectors do not travel a second time.
ADD_VECTORS = """
    INSERT INTO agent.chunk_vectors
        (collection_id, document_id, model_id, dimensions, chunk_id, text_hash, embedding)
    SELECT $1, $2, $3, $4, n.chunk_id, n.text_hash, known.embedding
    FROM unnest($5::uuid[], $6::bytea[]) AS n(chunk_id, text_hash)
    CROSS JOIN LATERAL (
        SELECT e.embedding FROM agent.embedded_texts e WHERE e.model_id = $3 AND e.text_hash = n.text_hash
        UNION ALL
        SELECT v.embedding FROM agent.chunk_vectors v
        WHERE v.text_hash = n.text_hash AND v.model_id IS NOT DISTINCT FROM $3
        LIMIT 1
    ) AS known
"""
DROP_VECTORS = "DELETE FROM agent.chunk_vectors WHERE collection_id = $1 AND chunk_id = ANY ($2::uuid[])"

# ---- words

# The first five parameters are the collection, its text search configuration, the mean length, k1 and b.
_WEIGHED = """
    SELECT
        coalesce(max(length), 0)::integer AS length,
        coalesce(array_agg(key), '{}') || TIERS AS term_keys,
        ('{' || coalesce(string_agg(place || ':' || weight::real, ',') FILTER (WHERE is_first), '') || '}/1000000000')
            ::sparsevec AS weights
    FROM (
        SELECT key, place, tf, length,
            row_number() OVER (PARTITION BY place) = 1 AS is_first,
            tf * ($4::float8 + 1) / (tf + $4::float8 * (1 - $5::float8 + $5::float8 * length / $3::float8)) AS weight
        FROM (
            SELECT key, (key & 9223372036854775807) % 1000000000 + 1 AS place, tf, sum(tf) OVER () AS length
            FROM (
                SELECT hashtextextended(lexeme, uuid_hash_extended($1::uuid, 0)) AS key, cardinality(positions) AS tf
                FROM unnest(to_tsvector($2::regconfig, coalesce(c.heading || E'\\n', '') || c.text))
            ) AS hashed
        ) AS placed
    ) AS weighted
""".replace(
    "TIERS",
    " || ".join(f"coalesce(array_agg(hashint8extended(key, {tf})) FILTER (WHERE tf >= {tf}), '{{}}')" for tf in TIERS),
)
MEAN_LENGTH = """
    SELECT avg(length)::float8 FROM unnest($2::text[]) AS t(body)
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(cardinality(positions)), 0) AS length FROM unnest(to_tsvector($1::regconfig, t.body))
    ) AS words
"""
ADD_TERMS = """
    WITH new AS MATERIALIZED (SELECT $1::uuid AS collection_id, unnest($6::uuid[]) AS id)
    INSERT INTO agent.chunk_terms (collection_id, chunk_id, document_id, length, term_keys, weights)
    SELECT c.collection_id, c.id, c.document_id, w.length, w.term_keys, w.weights
    FROM new JOIN agent.chunks c ON c.collection_id = new.collection_id AND c.id = new.id
    CROSS JOIN LATERAL (WEIGHED) AS w
""".replace("WEIGHED", _WEIGHED)
# What the document's words change in the collection, where the passages $3 are the ones that it had before.
COUNT_TERMS = """
    WITH gone AS (
        DELETE FROM agent.chunk_terms WHERE collection_id = $1 AND chunk_id = ANY ($3::uuid[])
        RETURNING term_keys, length
    ), fresh AS (
        SELECT term_keys, length FROM agent.chunk_terms
        WHERE collection_id = $1 AND document_id = $2 AND chunk_id <> ALL ($3::uuid[])
    ), change AS (
        SELECT key, sum(one) AS n
        FROM (
            SELECT unnest(term_keys) AS key, -1 AS one FROM gone
            UNION ALL
            SELECT unnest(term_keys), 1 FROM fresh
        ) AS each
        GROUP BY key HAVING sum(one) <> 0
    ), counted AS (
        INSERT INTO agent.terms AS t (collection_id, term_key, chunk_count)
        SELECT $1, key, n FROM change
        ON CONFLICT (collection_id, term_key) DO UPDATE SET chunk_count = t.chunk_count + excluded.chunk_count
        RETURNING t.term_key, t.chunk_count
    )
    SELECT
        (SELECT count(*) FROM fresh) - (SELECT count(*) FROM gone) AS chunks,
        coalesce((SELECT sum(length) FROM fresh), 0) - coalesce((SELECT sum(length) FROM gone), 0) AS length,
        (SELECT array_agg(term_key) FROM counted WHERE chunk_count <= 0) AS unused
"""
DROP_TERMS = "DELETE FROM agent.terms WHERE collection_id = $1 AND term_key = ANY ($2::bigint[])"
COUNT_COLLECTION = """
    UPDATE agent.collections SET
        document_count = document_count + $2,
        chunk_count = chunk_count + $3,
        total_length = total_length + $4,
        weighted_mean_length = CASE WHEN chunk_count + $3 > 0 THEN coalesce(weighted_mean_length, $5) END
    WHERE id = $1
"""

# ---- weighing anew

COLLECTION_LENGTHS = """
    SELECT text_config, weighted_mean_length, total_length::float8 / nullif(chunk_count, 0) AS mean_length
    FROM agent.collections WHERE id = $1 AND deleted_at IS NULL FOR NO KEY UPDATE
"""
_WEIGHED_ANEW = """, weighed AS (
        UPDATE agent.chunk_terms t SET weights = w.weights
        FROM batch c CROSS JOIN LATERAL (WEIGHED) AS w
        WHERE t.collection_id = c.collection_id AND t.chunk_id = c.id
    )
    SELECT id FROM batch ORDER BY id DESC LIMIT 1
""".replace("WEIGHED", _WEIGHED)
REWEIGH_DOCUMENT = """
    WITH batch AS MATERIALIZED (
        SELECT collection_id, id, heading, text FROM agent.chunks WHERE collection_id = $1 AND document_id = $6
    )REST""".replace("REST", _WEIGHED_ANEW)
REWEIGH_BATCH = """
    WITH batch AS MATERIALIZED (
        SELECT collection_id, id, heading, text FROM agent.chunks
        WHERE collection_id = $1 AND id > $6 ORDER BY id LIMIT $7
    )REST""".replace("REST", _WEIGHED_ANEW)
SET_WEIGHTED_MEAN = "UPDATE agent.collections SET weighted_mean_length = $2 WHERE id = $1 AND chunk_count > 0"

# ---- deleting a collection

BURY_COLLECTION = """
    INSERT INTO agent.collections AS c (id, owner_id, text_config, deleted_at) VALUES ($1, $2, $3, now())
    ON CONFLICT (id) DO UPDATE SET deleted_at = coalesce(c.deleted_at, now()), document_count = 0, chunk_count = 0,
        total_length = 0, weighted_mean_length = NULL
"""
_EMPTY = "DELETE FROM TABLE WHERE ctid = ANY (ARRAY(SELECT ctid FROM TABLE WHERE collection_id = $1 LIMIT 2000))"
EMPTY_TABLES = tuple(
    _EMPTY.replace("TABLE", f"agent.{table}")
    for table in ("chunk_vectors", "chunk_terms", "chunks", "documents", "terms")
)
"""Run each until it deletes nothing, in this order: chunks refer to their documents."""
