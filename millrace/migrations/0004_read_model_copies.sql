-- Copies of a read model: the live one (schema orders_v1), one that is being built beside it (orders_v1_next), and the
-- one that was live before, kept for a roll-back (orders_v1_previous). To take over is to rename schemas.
--
-- The service may create and rename no schema. It may call the functions below, which do exactly that and only for read
-- models that `migrate` registered. They run as the owner, with a search path that nobody else can put objects in.

-- The read models that were ever deployed. `tables` is the DDL: a copy is made by running it again, so that it has
-- everything that the live one has (identities, sequences, foreign keys, defaults), which LIKE would not give it.
CREATE TABLE read_models (
    name          text        NOT NULL CHECK (name ~ '^[a-z][a-z0-9_]{0,23}$'),
    version       integer     NOT NULL CHECK (version >= 1),
    tables        text,       -- NULL: deployed before this table existed, and not since
    consumer      text,       -- the name of the consumer that feeds it, when topics are its source
    registered_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (name, version)
);

CREATE TABLE read_model_copies (
    name     text        NOT NULL,
    version  integer     NOT NULL,
    copy     text        NOT NULL CHECK (copy IN ('live', 'next', 'previous')),
    began_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    built_at timestamptz,  -- when it had caught up with the events for the first time; NULL: it is being built
    since    timestamptz NOT NULL DEFAULT clock_timestamp(),  -- when it became the live one, the previous one ...
    PRIMARY KEY (name, version, copy),
    FOREIGN KEY (name, version) REFERENCES read_models
);

-- How far a copy that is being built has come, part by part. A part is a share of the own store's streams (source
-- 'store') or, when topics are the source, a partition (source is the topic, position the next offset).
CREATE TABLE read_model_parts (
    name       text        NOT NULL,
    version    integer     NOT NULL,
    source     text        NOT NULL,
    part       integer     NOT NULL,
    position   bigint      NOT NULL DEFAULT 0,
    events     bigint      NOT NULL DEFAULT 0,
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (name, version, source, part)
);

GRANT SELECT ON read_models TO millrace_service, millrace_reader;
GRANT SELECT, UPDATE (built_at) ON read_model_copies TO millrace_service;
GRANT SELECT, INSERT, UPDATE, DELETE ON read_model_parts TO millrace_service;
GRANT SELECT ON read_model_copies, read_model_parts TO millrace_reader;

-- What was deployed before there were copies.
INSERT INTO read_models (name, version)
SELECT substr(source, length('read_model ') + 1), number FROM schema_migrations WHERE source LIKE 'read\_model %';
INSERT INTO read_model_copies (name, version, copy, built_at) SELECT name, version, 'live', clock_timestamp() FROM read_models;

-- Readers find the version that they know, or an older one while theirs is being built, through their search path.
DO $$
DECLARE
    view text;
BEGIN
    FOR view IN
        SELECT DISTINCT v.viewname FROM pg_views v JOIN pg_tables t ON t.tablename = v.viewname
        JOIN read_models m ON t.schemaname = m.name || '_v' || m.version WHERE v.schemaname = 'public'
    LOOP
        EXECUTE format('DROP VIEW public.%I', view);
    END LOOP;
END $$;

-- The schema of a copy. Refuses a read model that isn't registered, and a copy that isn't one of the three.
CREATE FUNCTION read_model_schema(p_name text, p_version int, p_copy text) RETURNS text
LANGUAGE plpgsql STABLE STRICT SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM public.read_models m WHERE m.name = p_name AND m.version = p_version) THEN
        RAISE EXCEPTION 'there is no read model % version %', p_name, p_version
            USING ERRCODE = 'invalid_parameter_value', HINT = 'The service''s migrate registers its read models.';
    END IF;
    IF p_copy NOT IN ('live', 'next', 'previous') THEN
        RAISE EXCEPTION '% is no copy: live, next or previous', p_copy USING ERRCODE = 'invalid_parameter_value';
    END IF;
    RETURN format('%s_v%s%s', p_name, p_version, CASE p_copy WHEN 'live' THEN '' ELSE '_' || p_copy END);
END $$;

-- Makes an empty copy. For the owner only: migrate, and begin_read_model_copy.
CREATE FUNCTION create_read_model_copy(p_name text, p_version int, p_copy text) RETURNS void
LANGUAGE plpgsql STRICT SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    schema text := public.read_model_schema(p_name, p_version, p_copy);
    ddl    text := (SELECT m.tables FROM public.read_models m WHERE m.name = p_name AND m.version = p_version);
BEGIN
    IF ddl IS NULL THEN
        RAISE EXCEPTION 'the tables of read model % version % are not known', p_name, p_version
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Run the service''s migrate.';
    END IF;
    EXECUTE format('CREATE SCHEMA %I', schema);
    -- pg_temp is named, and last: it would be searched first, and the caller can put tables there.
    PERFORM set_config('search_path', format('%I, public, pg_temp', schema), true);
    EXECUTE ddl;
    PERFORM set_config('search_path', 'pg_catalog, pg_temp', true);
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO millrace_service, millrace_reader', schema);
    EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA %I TO millrace_service', schema);
    EXECUTE format('GRANT USAGE ON ALL SEQUENCES IN SCHEMA %I TO millrace_service', schema);
    EXECUTE format('GRANT SELECT ON ALL TABLES IN SCHEMA %I TO millrace_reader', schema);
    INSERT INTO public.read_model_copies (name, version, copy, built_at)
    VALUES (p_name, p_version, p_copy, CASE p_copy WHEN 'live' THEN clock_timestamp() END);
END $$;

-- Gets a copy out of the way, by renaming: that waits for nobody, also not for a backup that holds its tables. For the
-- owner only. sweep_read_models drops it later.
CREATE FUNCTION discard_read_model_copy(p_name text, p_version int, p_copy text) RETURNS void
LANGUAGE plpgsql STRICT SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    DELETE FROM public.read_model_copies c WHERE c.name = p_name AND c.version = p_version AND c.copy = p_copy;
    IF FOUND THEN
        EXECUTE format('ALTER SCHEMA %I RENAME TO %I', public.read_model_schema(p_name, p_version, p_copy),
                       format('%s_v%s_%s_discarded_%s', p_name, p_version, p_copy, pg_current_xact_id()));
    END IF;
END $$;

-- Makes one copy another one: its schema and its row. For the owner only.
CREATE FUNCTION rename_read_model_copy(p_name text, p_version int, p_from text, p_to text) RETURNS void
LANGUAGE plpgsql STRICT SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE public.read_model_copies c SET copy = p_to, since = clock_timestamp()
    WHERE c.name = p_name AND c.version = p_version AND c.copy = p_from;
    IF FOUND THEN
        EXECUTE format('ALTER SCHEMA %I RENAME TO %I', public.read_model_schema(p_name, p_version, p_from),
                       public.read_model_schema(p_name, p_version, p_to));
    END IF;
END $$;

-- From here on: what the service may call.

-- Makes the copy `next` unless there is one; returns whether it was made now.
CREATE FUNCTION begin_read_model_copy(p_name text, p_version int) RETURNS boolean
LANGUAGE plpgsql STRICT SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF EXISTS (SELECT FROM public.read_model_copies c
               WHERE c.name = p_name AND c.version = p_version AND c.copy = 'next') THEN
        RETURN false;
    END IF;
    PERFORM public.create_read_model_copy(p_name, p_version, 'next');
    RETURN true;
END $$;

-- next becomes live, live becomes previous, and an older previous is discarded.
CREATE FUNCTION take_over_read_model_copy(p_name text, p_version int) RETURNS void
LANGUAGE plpgsql STRICT SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM public.read_model_copies c
                   WHERE c.name = p_name AND c.version = p_version AND c.copy = 'next') THEN
        RAISE EXCEPTION 'no copy of % is being built', public.read_model_schema(p_name, p_version, 'live')
            USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    IF EXISTS (SELECT FROM public.read_model_copies c
               WHERE c.name = p_name AND c.version = p_version AND c.copy = 'live') THEN
        PERFORM public.discard_read_model_copy(p_name, p_version, 'previous');
        PERFORM public.rename_read_model_copy(p_name, p_version, 'live', 'previous');
    END IF;
    PERFORM public.rename_read_model_copy(p_name, p_version, 'next', 'live');
END $$;

-- live and previous change places.
CREATE FUNCTION roll_back_read_model_copy(p_name text, p_version int) RETURNS void
LANGUAGE plpgsql STRICT SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    live     text := public.read_model_schema(p_name, p_version, 'live');
    previous text := public.read_model_schema(p_name, p_version, 'previous');
    began    timestamptz;
    built    timestamptz;
BEGIN
    IF (SELECT count(*) FROM public.read_model_copies c
        WHERE c.name = p_name AND c.version = p_version AND c.copy IN ('live', 'previous')) < 2 THEN
        RAISE EXCEPTION 'there is no earlier copy of % to go back to', live
            USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    EXECUTE format('ALTER SCHEMA %I RENAME TO %I', live, live || '_aside');
    EXECUTE format('ALTER SCHEMA %I RENAME TO %I', previous, live);
    EXECUTE format('ALTER SCHEMA %I RENAME TO %I', live || '_aside', previous);
    DELETE FROM public.read_model_copies c WHERE c.name = p_name AND c.version = p_version AND c.copy = 'previous'
    RETURNING c.began_at, c.built_at INTO began, built;
    UPDATE public.read_model_copies c SET copy = 'previous', since = clock_timestamp()
    WHERE c.name = p_name AND c.version = p_version AND c.copy = 'live';
    INSERT INTO public.read_model_copies (name, version, copy, began_at, built_at)
    VALUES (p_name, p_version, 'live', began, built);
END $$;

-- Discards the copy next or previous; returns whether there was one.
CREATE FUNCTION abandon_read_model_copy(p_name text, p_version int, p_copy text) RETURNS boolean
LANGUAGE plpgsql STRICT SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF p_copy NOT IN ('next', 'previous') THEN
        RAISE EXCEPTION 'the % copy of a read model can''t be discarded', p_copy
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF NOT EXISTS (SELECT FROM public.read_model_copies c
                   WHERE c.name = p_name AND c.version = p_version AND c.copy = p_copy) THEN
        RETURN false;
    END IF;
    PERFORM public.discard_read_model_copy(p_name, p_version, p_copy);
    RETURN true;
END $$;

-- Drops what was discarded, but for copies that somebody still reads: the next sweep takes those. Returns how many.
CREATE FUNCTION sweep_read_model_copies() RETURNS int
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '1s' AS $$
DECLARE
    schema  text;
    dropped int := 0;
BEGIN
    FOR schema IN
        SELECT n.nspname FROM pg_namespace n
        WHERE n.nspname ~ '_v[0-9]+_(live|next|previous)_discarded_[0-9]+$'
          AND n.nspowner = (SELECT r.oid FROM pg_roles r WHERE r.rolname = current_user)
    LOOP
        BEGIN
            EXECUTE format('DROP SCHEMA %I CASCADE', schema);
            dropped := dropped + 1;
        EXCEPTION WHEN lock_not_available OR deadlock_detected OR invalid_schema_name THEN
            NULL;  -- in use, or another sweep was faster
        END;
    END LOOP;
    RETURN dropped;
END $$;

REVOKE EXECUTE ON FUNCTION read_model_schema, create_read_model_copy, discard_read_model_copy, rename_read_model_copy,
    begin_read_model_copy, take_over_read_model_copy, roll_back_read_model_copy, abandon_read_model_copy,
    sweep_read_model_copies FROM PUBLIC;
GRANT EXECUTE ON FUNCTION read_model_schema, begin_read_model_copy, take_over_read_model_copy, roll_back_read_model_copy,
    abandon_read_model_copy, sweep_read_model_copies TO millrace_service;

-- Whoever fills a copy says so in its session (options -c millrace.replay=on): a replay appends no events, also not by a
-- mistake in a read model.
CREATE OR REPLACE FUNCTION take_append_lock() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('millrace.replay', true) = 'on' THEN
        RAISE EXCEPTION 'a replay appends no events'
            USING ERRCODE = 'insufficient_privilege', HINT = 'A read model''s apply may only change its own tables.';
    END IF;
    PERFORM pg_advisory_xact_lock(7815263014);
    -- A process that is frozen between its append and its commit holds up every writer: not for long.
    PERFORM set_config('idle_in_transaction_session_timeout', '5s', true);
    RETURN NULL;
END $$;
