-- The three roles of Colloquy, their schemas and their rights in the database psql is connected to.
--
--   psql "postgresql://postgres@db.example.org/colloquy" -X \
--        -v owner_password=… -v api_password=… -v agent_password=… -f deploy/roles.sql
--
-- or, so that no password shows in a process list or a shell's history, leave the -v out and set
-- COLLOQUY_OWNER_PASSWORD, COLLOQUY_API_PASSWORD and COLLOQUY_AGENT_PASSWORD in the environment.
--
-- Needs PostgreSQL 17 or newer with pgvector, and a superuser; or a role with CREATEROLE that owns the
-- database, where a superuser has run `CREATE EXTENSION vector` in it. It can be run again at any time:
-- it sets the passwords to those given, mends rights that were lost, and fails if one of the roles holds
-- more than it should. Run it before the first migration, and in every new database of the same server.
--
--   colloquy_owner  owns the schemas chat, agent and migrations, and runs the migrations. Nothing at run time.
--   colloquy_api    rows of schema chat: SELECT, INSERT, UPDATE, DELETE. Nothing else.
--   colloquy_agent  rows of schema agent: the same; and the vector type, which lives in schema public.

\set ON_ERROR_STOP on
\set QUIET on
\if :{?owner_password} \else \getenv owner_password COLLOQUY_OWNER_PASSWORD
\endif
\if :{?api_password} \else \getenv api_password COLLOQUY_API_PASSWORD
\endif
\if :{?agent_password} \else \getenv agent_password COLLOQUY_AGENT_PASSWORD
\endif

\o /dev/null
BEGIN;

-- Two runs at once would trip over each other's roles.
SELECT pg_advisory_xact_lock(hashtext('colloquy roles'));

-- ---- roles

SELECT format('CREATE ROLE %I LOGIN', role)
FROM unnest(ARRAY['colloquy_owner', 'colloquy_api', 'colloquy_agent']) AS role
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role)
\gexec

ALTER ROLE colloquy_owner LOGIN PASSWORD :'owner_password';
ALTER ROLE colloquy_api LOGIN PASSWORD :'api_password';
ALTER ROLE colloquy_agent LOGIN PASSWORD :'agent_password';

DO $$
DECLARE
    too_much text;
BEGIN
    SELECT string_agg(rolname, ', ') INTO too_much
    FROM pg_roles
    WHERE rolname IN ('colloquy_owner', 'colloquy_api', 'colloquy_agent')
      AND (rolsuper OR rolcreatedb OR rolcreaterole OR rolreplication OR rolbypassrls);
    IF too_much IS NOT NULL THEN
        RAISE EXCEPTION 'attributes beyond LOGIN on: %; take them away with ALTER ROLE', too_much;
    END IF;
    SELECT string_agg(format('%s in %s', member::regrole, roleid::regrole), ', ') INTO too_much
    FROM pg_auth_members
    WHERE member IN ('colloquy_owner'::regrole, 'colloquy_api'::regrole, 'colloquy_agent'::regrole);
    IF too_much IS NOT NULL THEN
        RAISE EXCEPTION 'memberships that should not be: %; take them away with REVOKE', too_much;
    END IF;
END
$$;

-- Whoever is no superuser has to be a member of the owner to hand schemas over to it.
SELECT format('GRANT colloquy_owner TO %I WITH INHERIT TRUE, SET TRUE', current_user)
WHERE NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)
\gexec

-- The first schema of a path is where an unqualified CREATE would go: for nobody a place where they may.
ALTER ROLE colloquy_owner SET search_path = public;
ALTER ROLE colloquy_api SET search_path = chat;
ALTER ROLE colloquy_agent SET search_path = agent, public;

-- ---- the database: connect, and no temporary tables

SELECT format('REVOKE ALL ON DATABASE %I FROM PUBLIC, colloquy_owner, colloquy_api, colloquy_agent', current_database())
\gexec
SELECT format('GRANT CONNECT ON DATABASE %I TO colloquy_owner, colloquy_api, colloquy_agent', current_database())
\gexec
-- The migrations make sure that their schemas are there, which takes the right to create one even if it is.
SELECT format('GRANT CREATE ON DATABASE %I TO colloquy_owner', current_database())
\gexec

-- ---- schemas

SELECT format('CREATE SCHEMA %I AUTHORIZATION colloquy_owner', name)
FROM unnest(ARRAY['chat', 'agent', 'migrations']) AS name
WHERE NOT EXISTS (SELECT FROM pg_namespace WHERE nspname = name)
\gexec
ALTER SCHEMA chat OWNER TO colloquy_owner;
ALTER SCHEMA agent OWNER TO colloquy_owner;
ALTER SCHEMA migrations OWNER TO colloquy_owner;

SELECT 'CREATE EXTENSION vector SCHEMA public'
WHERE NOT EXISTS (SELECT FROM pg_extension WHERE extname = 'vector')
\gexec

REVOKE ALL ON SCHEMA public, chat, agent, migrations FROM PUBLIC, colloquy_api, colloquy_agent;
REVOKE ALL ON SCHEMA public FROM colloquy_owner;
GRANT USAGE ON SCHEMA public TO colloquy_owner, colloquy_agent;
GRANT USAGE ON SCHEMA chat TO colloquy_api;
GRANT USAGE ON SCHEMA agent TO colloquy_agent;

-- ---- rows: what is there, and what migrations will add

REVOKE ALL ON ALL TABLES IN SCHEMA chat, agent, migrations FROM PUBLIC, colloquy_api, colloquy_agent;
REVOKE ALL ON ALL SEQUENCES IN SCHEMA chat, agent, migrations FROM PUBLIC, colloquy_api, colloquy_agent;
REVOKE ALL ON ALL ROUTINES IN SCHEMA chat, agent, migrations FROM PUBLIC, colloquy_api, colloquy_agent;

GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA chat TO colloquy_api;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA chat TO colloquy_api;
GRANT EXECUTE ON ALL ROUTINES IN SCHEMA chat TO colloquy_api;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA agent TO colloquy_agent;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA agent TO colloquy_agent;
GRANT EXECUTE ON ALL ROUTINES IN SCHEMA agent TO colloquy_agent;

ALTER DEFAULT PRIVILEGES FOR ROLE colloquy_owner REVOKE EXECUTE ON ROUTINES FROM PUBLIC;
ALTER DEFAULT PRIVILEGES FOR ROLE colloquy_owner IN SCHEMA chat
    GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO colloquy_api;
ALTER DEFAULT PRIVILEGES FOR ROLE colloquy_owner IN SCHEMA chat GRANT USAGE ON SEQUENCES TO colloquy_api;
ALTER DEFAULT PRIVILEGES FOR ROLE colloquy_owner IN SCHEMA chat GRANT EXECUTE ON ROUTINES TO colloquy_api;
ALTER DEFAULT PRIVILEGES FOR ROLE colloquy_owner IN SCHEMA agent
    GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO colloquy_agent;
ALTER DEFAULT PRIVILEGES FOR ROLE colloquy_owner IN SCHEMA agent GRANT USAGE ON SEQUENCES TO colloquy_agent;
ALTER DEFAULT PRIVILEGES FOR ROLE colloquy_owner IN SCHEMA agent GRANT EXECUTE ON ROUTINES TO colloquy_agent;

COMMIT;
\o
