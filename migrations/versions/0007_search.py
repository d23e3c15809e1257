"""Search: the words of messages and titles, indexed in the transaction that writes them, and vectors of messages.

`message_search` has one row for each message that can be found, and one with `seq` 0 for the title of each session.
`words` also holds the session's owner and the language of the text as lexemes, so that one index answers "this word, of
this owner": a word that is everybody's is then as quick to look up as one that is rare.

What is there already is indexed by the worker, in small steps (`search_backlog`), because a migration that does it
would hold its locks for minutes.
"""

from __future__ import annotations

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_STOP_WORDS = {
    "german": "der die das und ist nicht ein eine ich mit zu auf wir wie von für",
    "french": "le la les des et est un une je pas que qui dans pour nous au",
    "spanish": "el los las de que en es un una por con para se lo como más",
    "portuguese": "os as de que em um uma para com não se por mais como do da",
    "italian": "il gli di che un una per non con sono del della si come ma anche",
    "dutch": "de het een en van ik is niet dat op te voor met die wat ook",
    "swedish": "och det att en som är inte på för jag med har till den ett vi",
    "danish": "og det at en er ikke på for jeg med har til den et vi af",
    "norwegian": "og det at en er ikke på for jeg med har til den et vi av",
    "finnish": "ja on ei se että mutta niin kuin oli olen tämä mitä myös voi sen mikä",
    "hungarian": "az és hogy nem is egy van ez de meg csak mint már el ha mi",
    "turkish": "ve bir bu da için ile çok ne ama var gibi daha değil mi ben nasıl",
}
"""Words that are in nearly every sentence of a language and tell it from its neighbours, by text search configuration.

As many for each, because the rank of a text is divided by their number. Where two languages are as likely, the first
in this order is taken; they share most of their words then.
"""

_SCRIPTS = {
    "russian": r"[\u0400-\u04ff]",
    "greek": r"[\u0370-\u03ff]",
    "arabic": r"[\u0600-\u06ff]",
    "hindi": r"[\u0900-\u097f]",
}
"""Writing that gives the language away, by text search configuration."""

_ENGLISH_WORDS = "the|and|is|of|to|you|that|it|for|with|this|are|what|how|can|we"
_PLAINLY_ENGLISH = " + ".join(
    f"(strpos(content, ' {word} ') > 0)::int"
    for word in ("the", "and", "to", "you", "that", "with", "this", "what", "are", "have")
)
"""How many there are of words that its neighbours do not have."""

_GUESSES = "\n".join(
    f"""
        likely := ts_rank(sample, '{" | ".join(words.split())}'::tsquery);
        IF likely > best THEN best := likely; language := '{language}'; END IF;"""
    for language, words in _STOP_WORDS.items()
)
_BY_SCRIPT = "\n".join(
    f"        IF content ~ '{pattern}' THEN RETURN '{language}'; END IF;" for language, pattern in _SCRIPTS.items()
)

_LANGUAGE = f"""
    CREATE FUNCTION chat.language_of(content text) RETURNS text
    LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
    DECLARE
        language text := 'english';
        likely real;
        best real;
        sample tsvector;
    BEGIN
        content := left(content, 300);
        IF octet_length(content) > length(content) THEN
{_BY_SCRIPT}
        END IF;
        -- Mostly it is, and this costs a tenth of asking for each.
        IF {_PLAINLY_ENGLISH} > 1 THEN RETURN language; END IF;
        sample := to_tsvector('simple', content);
        best := ts_rank(sample, '{_ENGLISH_WORDS}'::tsquery);
{_GUESSES}
        RETURN language;
    END
    $$
"""

# Runs of these are written without spaces between words: each character is made a word, and a word of the
# query a phrase of them.
_UNSPACED = r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]"

_PLAIN_TEXT = rf"""
    CREATE FUNCTION chat.plain_words(content text) RETURNS text
    LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
    BEGIN
        -- PostgreSQL's parser takes an address, a path or a number with its sign as one word. Here each part is one.
        IF content ~ '[-./@<&+~_][[:alnum:]/]' THEN
            content := regexp_replace(content, '[^[:alnum:]]+', ' ', 'g');
        END IF;
        IF octet_length(content) > length(content) AND content ~ '{_UNSPACED}' THEN
            content := regexp_replace(content, '({_UNSPACED})', ' \1 ', 'g');
        END IF;
        RETURN content;
    END
    $$
"""

_MOST_CHARACTERS = 100_000

_WRITE = f"""
    INSERT INTO chat.message_search AS found (session_id, created_at, seq, owner_id, role, language, words)
    VALUES (in_session, at, number, owner, said_by, spoken,
        to_tsvector(spoken::regconfig, chat.plain_words(left(content, {_MOST_CHARACTERS})))
        || array_to_tsvector(ARRAY['owner:' || owner, 'in:' || spoken]))
    ON CONFLICT (session_id, created_at, seq) DO UPDATE SET
        owner_id = excluded.owner_id, language = excluded.language, words = excluded.words
"""

_INDEX_TEXT = f"""
    CREATE FUNCTION chat.index_text(
        in_session uuid, at timestamptz, number bigint, owner uuid, said_by text, content text
    ) RETURNS void LANGUAGE plpgsql AS $$
    DECLARE
        spoken text := chat.language_of(content);
    BEGIN
        {_WRITE};
        -- With no model nobody asks for vectors, and nothing waits for one.
        IF EXISTS (SELECT 1 FROM chat.vector_model) THEN
            INSERT INTO chat.message_vector_queue (session_id, seq) VALUES (in_session, number)
            ON CONFLICT (session_id, seq) DO UPDATE SET version = excluded.version;
        END IF;
    END
    $$
"""

_CAN_BE_FOUND = (
    "{row}.deleted_at IS NULL AND {row}.status NOT IN ('streaming', 'awaiting_approval') AND {row}.content <> ''"
)
_NEW, _OLD = _CAN_BE_FOUND.format(row="NEW"), _CAN_BE_FOUND.format(row="OLD")

_TRIGGERS = (
    """
    CREATE FUNCTION chat.index_message() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM chat.index_text(NEW.session_id, NEW.created_at, NEW.seq, s.owner_id, NEW.role, NEW.content)
        FROM chat.sessions s WHERE s.id = NEW.session_id;
        IF TG_OP = 'UPDATE' THEN
            DELETE FROM chat.message_vectors v WHERE v.session_id = NEW.session_id AND v.seq = NEW.seq;
        END IF;
        RETURN NULL;
    END
    $$
    """,
    """
    CREATE FUNCTION chat.unindex_message() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        DELETE FROM chat.message_search f
        WHERE f.session_id = OLD.session_id AND f.created_at = OLD.created_at AND f.seq = OLD.seq;
        DELETE FROM chat.message_vector_queue q WHERE q.session_id = OLD.session_id AND q.seq = OLD.seq;
        DELETE FROM chat.message_vectors v WHERE v.session_id = OLD.session_id AND v.seq = OLD.seq;
        RETURN NULL;
    END
    $$
    """,
    """
    CREATE FUNCTION chat.unindex_messages() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        DELETE FROM chat.message_search f USING gone
        WHERE f.session_id = gone.session_id AND f.created_at = gone.created_at AND f.seq = gone.seq;
        DELETE FROM chat.message_vector_queue q USING gone WHERE q.session_id = gone.session_id AND q.seq = gone.seq;
        DELETE FROM chat.message_vectors v USING gone WHERE v.session_id = gone.session_id AND v.seq = gone.seq;
        RETURN NULL;
    END
    $$
    """,
    """
    CREATE FUNCTION chat.index_title() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF TG_OP = 'UPDATE' AND OLD.owner_id <> NEW.owner_id THEN
            UPDATE chat.message_search f SET
                owner_id = NEW.owner_id,
                words = ts_delete(f.words, 'owner:' || OLD.owner_id)
                    || array_to_tsvector(ARRAY['owner:' || NEW.owner_id])
            WHERE f.session_id = NEW.id;
        END IF;
        PERFORM chat.index_text(NEW.id, NEW.created_at, 0, NEW.owner_id, 'title', NEW.title);
        IF TG_OP = 'UPDATE' THEN
            DELETE FROM chat.message_vectors v WHERE v.session_id = NEW.id AND v.seq = 0;
        END IF;
        RETURN NULL;
    END
    $$
    """,
    """
    CREATE FUNCTION chat.unindex_session() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        DELETE FROM chat.message_search f WHERE f.session_id = OLD.id;
        DELETE FROM chat.message_vector_queue q WHERE q.session_id = OLD.id;
        DELETE FROM chat.message_vectors v WHERE v.session_id = OLD.id;
        RETURN NULL;
    END
    $$
    """,
    # The conditions are here, where they cost nothing: a reply that is still being written is not indexed.
    f"""
    CREATE TRIGGER tr_messages_index_new AFTER INSERT ON chat.messages
        FOR EACH ROW WHEN ({_NEW}) EXECUTE FUNCTION chat.index_message()
    """,
    f"""
    CREATE TRIGGER tr_messages_index_changed AFTER UPDATE OF content, status, deleted_at ON chat.messages
        FOR EACH ROW WHEN (({_NEW}) AND (OLD.content <> NEW.content OR NOT ({_OLD})))
        EXECUTE FUNCTION chat.index_message()
    """,
    f"""
    CREATE TRIGGER tr_messages_unindex_changed AFTER UPDATE OF content, status, deleted_at ON chat.messages
        FOR EACH ROW WHEN (({_OLD}) AND NOT ({_NEW})) EXECUTE FUNCTION chat.unindex_message()
    """,
    """
    CREATE TRIGGER tr_messages_unindex_gone AFTER DELETE ON chat.messages
        REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION chat.unindex_messages()
    """,
    """
    CREATE TRIGGER tr_sessions_index_new AFTER INSERT ON chat.sessions
        FOR EACH ROW EXECUTE FUNCTION chat.index_title()
    """,
    """
    CREATE TRIGGER tr_sessions_index_changed AFTER UPDATE OF title, owner_id ON chat.sessions
        FOR EACH ROW WHEN (OLD.title <> NEW.title OR OLD.owner_id <> NEW.owner_id)
        EXECUTE FUNCTION chat.index_title()
    """,
    """
    CREATE TRIGGER tr_sessions_unindex_gone AFTER DELETE ON chat.sessions
        FOR EACH ROW EXECUTE FUNCTION chat.unindex_session()
    """,
)

_CREATE = (
    """
    CREATE TABLE chat.message_search (
        session_id uuid NOT NULL,
        created_at timestamptz NOT NULL,
        seq bigint NOT NULL,
        owner_id uuid NOT NULL,
        role text NOT NULL,
        language text NOT NULL,
        words tsvector NOT NULL,
        CONSTRAINT pk_message_search PRIMARY KEY (session_id, created_at, seq)
    )
    """,
    # In the order of the results, so that the newest of one's own are read without a sort.
    """
    CREATE INDEX ix_message_search_owner_id_created_at
        ON chat.message_search (owner_id, created_at, session_id, seq)
    """,
    # What is new waits in a list that every search reads from end to end, so it is kept short (kB).
    "CREATE INDEX ix_message_search_words ON chat.message_search USING gin (words) WITH (gin_pending_list_limit = 64)",
    # The session up to which what was there before is indexed. No row: all of it is.
    "CREATE TABLE chat.search_backlog (session_id uuid NOT NULL CONSTRAINT pk_search_backlog PRIMARY KEY)",
    "INSERT INTO chat.search_backlog SELECT '00000000-0000-0000-0000-000000000000' FROM chat.sessions LIMIT 1",
    # Of unit length, each by the model that is named: vectors of two models cannot be compared.
    """
    CREATE TABLE chat.message_vectors (
        session_id uuid NOT NULL,
        seq bigint NOT NULL,
        model text NOT NULL,
        vector public.halfvec NOT NULL,
        CONSTRAINT pk_message_vectors PRIMARY KEY (session_id, seq)
    )
    """,
    # `version` tells a text that was queued again from what is being embedded. Queue first, vectors after: whoever
    # changes both does it in this order.
    """
    CREATE TABLE chat.message_vector_queue (
        session_id uuid NOT NULL,
        seq bigint NOT NULL,
        version uuid NOT NULL DEFAULT gen_random_uuid(),
        CONSTRAINT pk_message_vector_queue PRIMARY KEY (session_id, seq)
    )
    """,
    # One row while messages are embedded, leased by the worker that does it. `queued_up_to` is the session up to which
    # what was there before is queued; null: all is.
    """
    CREATE TABLE chat.vector_model (
        name text NOT NULL CONSTRAINT pk_vector_model PRIMARY KEY,
        queued_up_to uuid,
        lease_owner text,
        lease_expires_at timestamptz
    )
    """,
    # The API may not look into the schema that the vector type lives in. These were resolved when they were made.
    """
    CREATE FUNCTION chat.as_vector(numbers real[]) RETURNS public.halfvec LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    BEGIN ATOMIC SELECT CAST(numbers AS public.halfvec); END
    """,
    """
    CREATE FUNCTION chat.similarity(one public.halfvec, other public.halfvec) RETURNS double precision
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    BEGIN ATOMIC SELECT -(one OPERATOR(public.<#>) other); END
    """,
    _LANGUAGE,
    _PLAIN_TEXT,
    _INDEX_TEXT,
    *_TRIGGERS,
)
_DROP = (
    *(
        f"DROP TRIGGER tr_{table}_{name} ON chat.{table}"
        for table, name in (
            ("messages", "index_new"),
            ("messages", "index_changed"),
            ("messages", "unindex_changed"),
            ("messages", "unindex_gone"),
            ("sessions", "index_new"),
            ("sessions", "index_changed"),
            ("sessions", "unindex_gone"),
        )
    ),
    *(
        f"DROP FUNCTION chat.{name}"
        for name in (
            "unindex_session",
            "index_title",
            "unindex_messages",
            "unindex_message",
            "index_message",
            "index_text",
            "plain_words",
            "language_of",
            "similarity",
            "as_vector",
        )
    ),
    "DROP TABLE chat.vector_model",
    "DROP TABLE chat.message_vector_queue",
    "DROP TABLE chat.message_vectors",
    "DROP TABLE chat.search_backlog",
    "DROP TABLE chat.message_search",
)


def upgrade() -> None:
    for statement in _CREATE:
        op.execute(statement)


def downgrade() -> None:
    for statement in _DROP:
        op.execute(statement)
