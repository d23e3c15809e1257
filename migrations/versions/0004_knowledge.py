"""Bots, their documents, work for later, and the agent's collections of passages.

`chat` keeps what people own; `agent` keeps what is searched. Every table of the agent leads its primary key with
the collection, so that they can be partitioned or distributed by it.
"""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

DIMENSIONS = (384, 512, 768, 1024, 1536, 3072)
"""Of the embedding models that can be configured. An index needs to know its dimensions, and an empty one is free."""

_CHAT = (
    """
    CREATE TABLE chat.bots (
        id uuid NOT NULL CONSTRAINT pk_bots PRIMARY KEY,
        owner_id uuid NOT NULL CONSTRAINT fk_bots_owner_id_users REFERENCES chat.users (id),
        name text NOT NULL,
        description text NOT NULL DEFAULT '',
        system_prompt text,
        provider text,
        model text,
        configuration jsonb NOT NULL DEFAULT '{}',
        visibility text NOT NULL DEFAULT 'private',
        deleted_at timestamptz,
        created_at timestamptz NOT NULL DEFAULT now(),
        updated_at timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT ck_bots_visibility CHECK (visibility IN ('private', 'shared', 'public'))
    )
    """,
    "CREATE INDEX ix_bots_owner_id ON chat.bots (owner_id)",
    "CREATE INDEX ix_bots_public ON chat.bots (created_at, id) WHERE visibility = 'public' AND deleted_at IS NULL",
    """
    CREATE TABLE chat.bot_shares (
        bot_id uuid NOT NULL CONSTRAINT fk_bot_shares_bot_id_bots REFERENCES chat.bots (id) ON DELETE CASCADE,
        user_id uuid NOT NULL CONSTRAINT fk_bot_shares_user_id_users REFERENCES chat.users (id),
        created_at timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT pk_bot_shares PRIMARY KEY (bot_id, user_id)
    )
    """,
    "CREATE INDEX ix_bot_shares_user_id ON chat.bot_shares (user_id)",
    # A session goes on without its bot, and says so: no foreign key takes the bot's id away from it.
    "CREATE INDEX ix_sessions_bot_id ON chat.sessions (bot_id) WHERE bot_id IS NOT NULL",
    """
    CREATE TABLE chat.documents (
        id uuid NOT NULL CONSTRAINT pk_documents PRIMARY KEY,
        bot_id uuid NOT NULL CONSTRAINT fk_documents_bot_id_bots REFERENCES chat.bots (id),
        uploaded_by uuid NOT NULL CONSTRAINT fk_documents_uploaded_by_users REFERENCES chat.users (id),
        name text NOT NULL,
        content_type text NOT NULL,
        size_bytes bigint NOT NULL,
        sha256 bytea NOT NULL,
        storage_key text NOT NULL,
        status text NOT NULL DEFAULT 'pending',
        progress_done bigint NOT NULL DEFAULT 0,
        progress_total bigint NOT NULL DEFAULT 0,
        chunk_count bigint NOT NULL DEFAULT 0,
        error jsonb,
        version bigint NOT NULL DEFAULT 1,
        created_at timestamptz NOT NULL DEFAULT now(),
        indexed_at timestamptz,
        deleted_at timestamptz,
        CONSTRAINT ck_documents_status CHECK (status IN ('pending', 'processing', 'ready', 'failed'))
    ) WITH (fillfactor = 80)
    """,
    # The same bytes are one document of a bot, however many uploads race.
    """
    CREATE UNIQUE INDEX uq_documents_bot_id_sha256 ON chat.documents (bot_id, sha256) WHERE deleted_at IS NULL
    """,
    "CREATE INDEX ix_documents_bot_id_created_at_id ON chat.documents (bot_id, created_at, id)",
    "CREATE INDEX ix_documents_deleted ON chat.documents (bot_id) WHERE deleted_at IS NOT NULL",
    """
    CREATE TABLE chat.outbox (
        id uuid NOT NULL CONSTRAINT pk_outbox PRIMARY KEY,
        topic text NOT NULL,
        subject_id uuid NOT NULL,
        payload jsonb NOT NULL DEFAULT '{}',
        request_id text,
        attempt bigint NOT NULL DEFAULT 0,
        lease_owner text,
        available_at timestamptz NOT NULL DEFAULT now(),
        created_at timestamptz NOT NULL DEFAULT now()
    ) WITH (fillfactor = 80)
    """,
    "CREATE INDEX ix_outbox_available_at_id ON chat.outbox (available_at, id)",
    "CREATE INDEX ix_outbox_subject_id ON chat.outbox (subject_id)",
)

_AGENT = (
    # The pairs of a name and its dimensions that vectors were ever made by.
    """
    CREATE TABLE agent.embedding_models (
        id smallint GENERATED ALWAYS AS IDENTITY CONSTRAINT pk_embedding_models PRIMARY KEY,
        name text NOT NULL CONSTRAINT uq_embedding_models_name UNIQUE,
        dimensions integer NOT NULL
    )
    """,
    # One row at most: which model the index belongs to. While it changes, `complete` is false.
    """
    CREATE TABLE agent.index_state (
        singleton boolean NOT NULL DEFAULT true CONSTRAINT pk_index_state PRIMARY KEY,
        model_id smallint NOT NULL
            CONSTRAINT fk_index_state_model_id_embedding_models REFERENCES agent.embedding_models (id),
        complete boolean NOT NULL,
        CONSTRAINT ck_index_state_singleton CHECK (singleton)
    )
    """,
    """
    CREATE TABLE agent.collections (
        id uuid NOT NULL CONSTRAINT pk_collections PRIMARY KEY,
        owner_id uuid,
        text_config text NOT NULL,
        document_count bigint NOT NULL DEFAULT 0,
        chunk_count bigint NOT NULL DEFAULT 0,
        total_length bigint NOT NULL DEFAULT 0,
        weighted_mean_length double precision,
        deleted_at timestamptz,
        created_at timestamptz NOT NULL DEFAULT now()
    ) WITH (fillfactor = 80)
    """,
    """
    CREATE TABLE agent.documents (
        collection_id uuid NOT NULL
            CONSTRAINT fk_documents_collection_id_collections REFERENCES agent.collections (id),
        id uuid NOT NULL,
        version bigint NOT NULL,
        name text NOT NULL,
        chunk_count bigint NOT NULL,
        indexed_at timestamptz NOT NULL DEFAULT now(),
        deleted_at timestamptz,
        CONSTRAINT pk_documents PRIMARY KEY (collection_id, id)
    )
    """,
    """
    CREATE TABLE agent.chunks (
        collection_id uuid NOT NULL,
        id uuid NOT NULL,
        document_id uuid NOT NULL,
        position integer NOT NULL,
        text text NOT NULL,
        heading text,
        page integer,
        start_char integer NOT NULL,
        end_char integer NOT NULL,
        CONSTRAINT pk_chunks PRIMARY KEY (collection_id, id),
        CONSTRAINT uq_chunks_collection_id_document_id_position UNIQUE (collection_id, document_id, position),
        CONSTRAINT fk_chunks_collection_id_document_id_documents
            FOREIGN KEY (collection_id, document_id) REFERENCES agent.documents (collection_id, id)
    )
    """,
    # Apart from the text: what a search reads of every passage should be close together. A vector of 3072 dimensions
    # fits a page, and reading it from elsewhere would cost more than comparing it.
    """
    CREATE TABLE agent.chunk_vectors (
        collection_id uuid NOT NULL,
        chunk_id uuid NOT NULL,
        document_id uuid NOT NULL,
        model_id smallint NOT NULL
            CONSTRAINT fk_chunk_vectors_model_id_embedding_models REFERENCES agent.embedding_models (id),
        dimensions integer NOT NULL,
        text_hash bytea NOT NULL,
        embedding public.halfvec STORAGE PLAIN NOT NULL,
        CONSTRAINT pk_chunk_vectors PRIMARY KEY (collection_id, chunk_id)
    )
    """,
    "CREATE INDEX ix_chunk_vectors_collection_id_document_id ON agent.chunk_vectors (collection_id, document_id)",
    "CREATE INDEX ix_chunk_vectors_text_hash ON agent.chunk_vectors (text_hash, model_id)",
    "CREATE INDEX ix_chunk_vectors_model_id ON agent.chunk_vectors (model_id, collection_id, chunk_id)",
    *(
        f"""
        CREATE INDEX ix_chunk_vectors_hnsw_{dimensions} ON agent.chunk_vectors
            USING hnsw ((embedding::public.halfvec({dimensions})) public.halfvec_cosine_ops)
            WITH (m = 16, ef_construction = 64) WHERE dimensions = {dimensions}
        """
        for dimensions in DIMENSIONS
    ),
    # `term_keys` finds the passages that hold a term (keys are hashes of collection and term, so no list is shared
    # between collections); `weights` ranks them: BM25 is the inner product with the query's weights. The keys are read
    # through their index alone, so of longer passages they are kept apart, and the weights stay close together.
    """
    CREATE TABLE agent.chunk_terms (
        collection_id uuid NOT NULL,
        chunk_id uuid NOT NULL,
        document_id uuid NOT NULL,
        length integer NOT NULL,
        term_keys bigint[] STORAGE EXTERNAL NOT NULL,
        weights public.sparsevec STORAGE MAIN NOT NULL,
        CONSTRAINT pk_chunk_terms PRIMARY KEY (collection_id, chunk_id)
    ) WITH (toast_tuple_target = 1200)
    """,
    "CREATE INDEX ix_chunk_terms_collection_id_document_id ON agent.chunk_terms (collection_id, document_id)",
    "CREATE INDEX ix_chunk_terms_term_keys ON agent.chunk_terms USING gin (term_keys) WITH (fastupdate = off)",
    """
    CREATE TABLE agent.terms (
        collection_id uuid NOT NULL,
        term_key bigint NOT NULL,
        chunk_count bigint NOT NULL,
        CONSTRAINT pk_terms PRIMARY KEY (collection_id, term_key)
    ) WITH (fillfactor = 80)
    """,
    # Vectors of documents that are still being put: a put that was cut short does not begin anew.
    """
    CREATE TABLE agent.embedded_texts (
        model_id smallint NOT NULL
            CONSTRAINT fk_embedded_texts_model_id_embedding_models REFERENCES agent.embedding_models (id),
        text_hash bytea NOT NULL,
        embedding public.halfvec NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT pk_embedded_texts PRIMARY KEY (model_id, text_hash)
    )
    """,
    "CREATE INDEX ix_embedded_texts_created_at ON agent.embedded_texts (created_at)",
)


def upgrade() -> None:
    for statement in (*_CHAT, *_AGENT):
        op.execute(statement)


def downgrade() -> None:
    agents = ("embedded_texts", "terms", "chunk_terms", "chunk_vectors", "chunks", "documents", "collections")
    for table in (*agents, "index_state", "embedding_models"):
        op.execute(f"DROP TABLE agent.{table}")
    op.execute("DROP INDEX chat.ix_sessions_bot_id")
    for table in ("outbox", "documents", "bot_shares", "bots"):
        op.execute(f"DROP TABLE chat.{table}")
