-- Five tools that keep a user's tasks, and the tables under them.
--
-- Applied over itself whenever it has changed: the tasks stay, and so does who may execute which tool.
CREATE SCHEMA IF NOT EXISTS tasks AUTHORIZATION parley_owner;
SET LOCAL ROLE parley_owner;

COMMENT ON SCHEMA tasks IS 'The tasks of users: what the task tools work on.';
GRANT USAGE ON SCHEMA tasks TO parley_tool;

CREATE TABLE IF NOT EXISTS tasks.counters (
	user_id		text COLLATE "C" PRIMARY KEY,
	last_id		bigint NOT NULL
) WITH (fillfactor = 50);
COMMENT ON TABLE tasks.counters IS 'The newest task number of each user; numbers are not used twice.';
COMMENT ON COLUMN tasks.counters.user_id IS 'Whose it is.';
COMMENT ON COLUMN tasks.counters.last_id IS 'The number of the newest task.';

-- The key is also the index for "newest first".
CREATE TABLE IF NOT EXISTS tasks.tasks (
	user_id		text COLLATE "C" NOT NULL,
	id		bigint NOT NULL,
	title		text NOT NULL CHECK (char_length(title) BETWEEN 1 AND 255),
	description	text NOT NULL DEFAULT '' CHECK (char_length(description) <= 5000),
	status		text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'completed')),
	created_at	timestamptz NOT NULL,
	updated_at	timestamptz NOT NULL,
	PRIMARY KEY (user_id, id)
) WITH (fillfactor = 90);
COMMENT ON TABLE tasks.tasks IS 'What users want to do.';
COMMENT ON COLUMN tasks.tasks.user_id IS 'Whose it is.';
COMMENT ON COLUMN tasks.tasks.id IS 'Counts from 1 for each user.';
COMMENT ON COLUMN tasks.tasks.title IS 'What is to be done.';
COMMENT ON COLUMN tasks.tasks.description IS 'More about it, maybe empty.';
COMMENT ON COLUMN tasks.tasks.status IS 'pending or completed.';
COMMENT ON COLUMN tasks.tasks.created_at IS 'When it was added.';
COMMENT ON COLUMN tasks.tasks.updated_at IS 'When it was last changed.';

ALTER TABLE tasks.counters ENABLE ROW LEVEL SECURITY;
ALTER TABLE tasks.counters FORCE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS own_rows ON tasks.counters;
CREATE POLICY own_rows ON tasks.counters USING (user_id = nullif(current_setting('parley.user_id', true), ''));
ALTER TABLE tasks.tasks ENABLE ROW LEVEL SECURITY;
ALTER TABLE tasks.tasks FORCE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS own_rows ON tasks.tasks;
CREATE POLICY own_rows ON tasks.tasks USING (user_id = nullif(current_setting('parley.user_id', true), ''));
GRANT SELECT, INSERT, UPDATE, DELETE ON tasks.counters, tasks.tasks TO parley_tool;

CREATE OR REPLACE FUNCTION tasks.who() RETURNS text
LANGUAGE sql STABLE
RETURN current_setting('parley.user_id');
COMMENT ON FUNCTION tasks.who IS 'The user the tool runs for.';

CREATE OR REPLACE FUNCTION tasks.clean_title(p_title text) RETURNS text
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
	v_title text := regexp_replace(coalesce(p_title, ''), '^\s+|\s+$', '', 'g');
BEGIN
	IF v_title = '' THEN
		RAISE EXCEPTION 'Title is required.';
	ELSIF char_length(v_title) > 255 THEN
		RAISE EXCEPTION 'Title must be 255 characters or less.';
	END IF;
	RETURN v_title;
END
$$;
COMMENT ON FUNCTION tasks.clean_title IS 'A title without the white space around it; raises what is wrong with it.';

CREATE OR REPLACE FUNCTION tasks.clean_description(p_description text) RETURNS text
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
	IF char_length(p_description) > 5000 THEN
		RAISE EXCEPTION 'Description must be 5000 characters or less.';
	END IF;
	RETURN coalesce(p_description, '');
END
$$;
COMMENT ON FUNCTION tasks.clean_description IS 'A description; raises what is wrong with it.';

CREATE OR REPLACE FUNCTION tasks.task_json(p tasks.tasks) RETURNS json
LANGUAGE sql STABLE
RETURN json_build_object('id', p.id, 'title', p.title, 'description', p.description, 'status', p.status,
    'created_at', to_char(p.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'),
    'updated_at', to_char(p.updated_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'));
COMMENT ON FUNCTION tasks.task_json IS 'A task as the model sees it.';

CREATE OR REPLACE FUNCTION tasks.result(p tasks.tasks, p_status text) RETURNS json
LANGUAGE sql STABLE
RETURN json_build_object('task_id', p.id, 'status', p_status, 'title', p.title, 'task', tasks.task_json(p));
COMMENT ON FUNCTION tasks.result IS 'What a tool says of the one task it worked on.';

CREATE OR REPLACE FUNCTION tasks.find(p_id bigint) RETURNS tasks.tasks
LANGUAGE plpgsql AS $$
DECLARE
	v_task tasks.tasks;
BEGIN
	IF p_id IS NULL THEN
		RAISE EXCEPTION 'task_id is required.';
	END IF;
	SELECT t.* INTO v_task FROM tasks.tasks t WHERE t.user_id = tasks.who() AND t.id = p_id FOR UPDATE;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'There is no task %.', p_id;
	END IF;
	RETURN v_task;
END
$$;
COMMENT ON FUNCTION tasks.find IS 'A task of the user, locked; raises that there is none.';

GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA tasks TO parley_tool;

CREATE OR REPLACE FUNCTION tools.add_task(title text, description text DEFAULT NULL) RETURNS json
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
	v_title text := tasks.clean_title(add_task.title);
	v_description text := tasks.clean_description(add_task.description);
	v_id bigint;
	v_task tasks.tasks;
BEGIN
	INSERT INTO tasks.counters AS c (user_id, last_id) VALUES (tasks.who(), 1)
	ON CONFLICT (user_id) DO UPDATE SET last_id = c.last_id + 1
	RETURNING c.last_id INTO v_id;
	INSERT INTO tasks.tasks AS t (user_id, id, title, description, created_at, updated_at)
	VALUES (tasks.who(), v_id, v_title, v_description, clock_timestamp(), clock_timestamp())
	RETURNING t.* INTO v_task;
	RETURN tasks.result(v_task, 'created');
END
$$;
COMMENT ON FUNCTION tools.add_task IS
'Adds a task to the user''s list.
@param title What is to be done, 1 to 255 characters.
@param description More about it, at most 5000 characters.
@returns {"type": "object", "properties": {
	"task_id": {"type": "integer"}, "status": {"const": "created"}, "title": {"type": "string"},
	"task": {"type": "object", "properties": {
	"id": {"type": "integer"}, "title": {"type": "string"}, "description": {"type": "string"},
	"status": {"enum": ["pending", "completed"]},
	"created_at": {"type": "string", "format": "date-time"}, "updated_at": {"type": "string", "format": "date-time"}},
	"required": ["id", "title", "description", "status", "created_at", "updated_at"]}},
	"required": ["task_id", "status", "title", "task"]}';

CREATE OR REPLACE FUNCTION tools.list_tasks(status text DEFAULT 'all') RETURNS json
LANGUAGE plpgsql STABLE AS $$
#variable_conflict use_column
DECLARE
	v_states text[] := CASE WHEN list_tasks.status IN ('pending', 'completed') THEN ARRAY[list_tasks.status]
	    WHEN list_tasks.status = 'all' THEN ARRAY['pending', 'completed'] END;
	v_tasks json;
	v_shown bigint;
	v_total bigint;
BEGIN
	IF v_states IS NULL THEN
		RAISE EXCEPTION 'Status must be one of: all, pending, completed.';
	END IF;
	-- As many as a result may hold; who has more is told how many there are.
	SELECT coalesce(json_agg(s.task ORDER BY s.id DESC), '[]'), count(*)
	  INTO v_tasks, v_shown
	  FROM (SELECT n.id, n.task, sum(octet_length(n.task::text) + 4) OVER (ORDER BY n.id DESC) AS bytes
	          -- JSON only of those that are left: beside the ORDER BY it would be made of all.
	          FROM (SELECT t.id, tasks.task_json(t.task) AS task
	                  FROM (SELECT x.id, x AS task
	                          FROM tasks.tasks x
	                         WHERE x.user_id = tasks.who() AND x.status = ANY (v_states)
	                         ORDER BY x.id DESC LIMIT 1000) t
	                 OFFSET 0) n) s
	 WHERE s.bytes <= 200000;
	SELECT count(*) INTO v_total FROM tasks.tasks t WHERE t.user_id = tasks.who() AND t.status = ANY (v_states);
	IF v_total > v_shown THEN
		RETURN json_build_object('tasks', v_tasks, 'total', v_total,
		    'note', format('Only the newest %s of %s tasks are listed.', v_shown, v_total));
	END IF;
	RETURN json_build_object('tasks', v_tasks);
END
$$;
COMMENT ON FUNCTION tools.list_tasks IS
'Lists the user''s tasks, newest first. Use it to find a task by its title.
@read_only
@param status (all|pending|completed) Which tasks: all of them, those not yet done, or those done.
@returns {"type": "object", "properties": {
	"tasks": {"type": "array", "items": {"type": "object", "properties": {
	"id": {"type": "integer"}, "title": {"type": "string"}, "description": {"type": "string"},
	"status": {"enum": ["pending", "completed"]},
	"created_at": {"type": "string", "format": "date-time"}, "updated_at": {"type": "string", "format": "date-time"}},
	"required": ["id", "title", "description", "status", "created_at", "updated_at"]}},
	"total": {"type": "integer"}, "note": {"type": "string"}},
	"required": ["tasks"]}';

CREATE OR REPLACE FUNCTION tools.update_task(task_id bigint, title text DEFAULT NULL, description text DEFAULT NULL) RETURNS json
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
	v_old tasks.tasks := tasks.find(update_task.task_id);
	v_task tasks.tasks;
BEGIN
	IF update_task.title IS NULL AND update_task.description IS NULL THEN
		RAISE EXCEPTION 'Nothing to update: give a title or a description.';
	END IF;
	UPDATE tasks.tasks t
	   SET title = CASE WHEN update_task.title IS NULL THEN t.title ELSE tasks.clean_title(update_task.title) END,
	       description = CASE WHEN update_task.description IS NULL THEN t.description
	                          ELSE tasks.clean_description(update_task.description) END,
	       updated_at = clock_timestamp()
	 WHERE t.user_id = tasks.who() AND t.id = v_old.id
	RETURNING t.* INTO v_task;
	RETURN json_build_object('task_id', v_task.id, 'status', 'updated', 'title', v_task.title,
	    'task', tasks.task_json(v_task),
	    'previous', json_build_object('title', v_old.title, 'description', v_old.description));
END
$$;
COMMENT ON FUNCTION tools.update_task IS
'Changes the title or the description of a task, or both; what is not given stays as it is.
@idempotent
@param task_id The number of the task, as list_tasks gives it.
@param title The new title, 1 to 255 characters.
@param description The new description, at most 5000 characters; empty removes it.
@returns {"type": "object", "properties": {
	"task_id": {"type": "integer"}, "status": {"const": "updated"}, "title": {"type": "string"},
	"task": {"type": "object", "properties": {
	"id": {"type": "integer"}, "title": {"type": "string"}, "description": {"type": "string"},
	"status": {"enum": ["pending", "completed"]},
	"created_at": {"type": "string", "format": "date-time"}, "updated_at": {"type": "string", "format": "date-time"}},
	"required": ["id", "title", "description", "status", "created_at", "updated_at"]},
	"previous": {"type": "object", "properties": {"title": {"type": "string"}, "description": {"type": "string"}},
	"required": ["title", "description"]}},
	"required": ["task_id", "status", "title", "task", "previous"]}';

CREATE OR REPLACE FUNCTION tools.complete_task(task_id bigint) RETURNS json
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
	v_task tasks.tasks := tasks.find(complete_task.task_id);
BEGIN
	-- Completing it again changes nothing, not even the time.
	IF v_task.status <> 'completed' THEN
		UPDATE tasks.tasks t SET status = 'completed', updated_at = clock_timestamp()
		 WHERE t.user_id = tasks.who() AND t.id = v_task.id
		RETURNING t.* INTO v_task;
	END IF;
	RETURN tasks.result(v_task, 'completed');
END
$$;
COMMENT ON FUNCTION tools.complete_task IS
'Marks a task as done.
@idempotent
@param task_id The number of the task, as list_tasks gives it.
@returns {"type": "object", "properties": {
	"task_id": {"type": "integer"}, "status": {"const": "completed"}, "title": {"type": "string"},
	"task": {"type": "object", "properties": {
	"id": {"type": "integer"}, "title": {"type": "string"}, "description": {"type": "string"},
	"status": {"enum": ["pending", "completed"]},
	"created_at": {"type": "string", "format": "date-time"}, "updated_at": {"type": "string", "format": "date-time"}},
	"required": ["id", "title", "description", "status", "created_at", "updated_at"]}},
	"required": ["task_id", "status", "title", "task"]}';

CREATE OR REPLACE FUNCTION tasks.delete_question(p_args json) RETURNS text
LANGUAGE plpgsql STABLE AS $$
DECLARE
	v_title text;
BEGIN
	SELECT t.title INTO v_title FROM tasks.tasks t
	 WHERE t.user_id = tasks.who() AND t.id = (p_args ->> 'task_id')::bigint;
	RETURN 'Delete the task "' || v_title || '"?';
END
$$;
COMMENT ON FUNCTION tasks.delete_question IS 'What the user is asked before delete_task runs; NULL: there is no such task.';
GRANT EXECUTE ON FUNCTION tasks.delete_question TO parley_tool;

CREATE OR REPLACE FUNCTION tools.delete_task(task_id bigint) RETURNS json
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
	v_task tasks.tasks := tasks.find(delete_task.task_id);
BEGIN
	DELETE FROM tasks.tasks t WHERE t.user_id = tasks.who() AND t.id = v_task.id;
	RETURN tasks.result(v_task, 'deleted');
END
$$;
COMMENT ON FUNCTION tools.delete_task IS
'Deletes a task for good.
@confirm tasks.delete_question
@param task_id The number of the task, as list_tasks gives it.
@returns {"type": "object", "properties": {
	"task_id": {"type": "integer"}, "status": {"const": "deleted"}, "title": {"type": "string"},
	"task": {"type": "object", "properties": {
	"id": {"type": "integer"}, "title": {"type": "string"}, "description": {"type": "string"},
	"status": {"enum": ["pending", "completed"]},
	"created_at": {"type": "string", "format": "date-time"}, "updated_at": {"type": "string", "format": "date-time"}},
	"required": ["id", "title", "description", "status", "created_at", "updated_at"]}},
	"required": ["task_id", "status", "title", "task"]}';
RESET ROLE;
