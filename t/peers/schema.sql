-- The schema that the peers of the bench share: what a chat service of this kind needs, and no more.
--
-- No row-level security, no leases, no runs: whose a row is, each statement says; a turn that its process
-- lost holds its conversation until live_until, and is then simply over.
CREATE TABLE conversations (
	id		uuid PRIMARY KEY,
	user_id		text NOT NULL,
	title		text NOT NULL,
	turns		integer NOT NULL DEFAULT 1,
	live_until	timestamptz,	-- null: no turn is live
	created_at	timestamptz NOT NULL DEFAULT now(),
	updated_at	timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 80);
CREATE INDEX ON conversations (user_id, updated_at DESC);

CREATE TABLE turns (
	conversation_id	uuid NOT NULL REFERENCES conversations ON DELETE CASCADE,
	turn		integer NOT NULL,
	state		text NOT NULL DEFAULT 'running' CHECK (state IN ('running', 'done', 'failed')),
	error_code	text,
	input_tokens	integer NOT NULL DEFAULT 0,
	output_tokens	integer NOT NULL DEFAULT 0,
	started_at	timestamptz NOT NULL DEFAULT now(),
	ended_at	timestamptz,
	PRIMARY KEY (conversation_id, turn)
) WITH (fillfactor = 80);

-- The key is the order of the conversation: the newest 50 are one range of it.
CREATE TABLE messages (
	conversation_id	uuid NOT NULL,
	turn		integer NOT NULL,
	idx		integer NOT NULL,
	id		uuid NOT NULL,
	role		text NOT NULL CHECK (role IN ('user', 'assistant', 'tool')),
	content		text NOT NULL,
	tool_calls	jsonb,		-- of an assistant's step: [{id, name, arguments}]
	tool_call_id	text,		-- of a tool's result
	created_at	timestamptz NOT NULL DEFAULT now(),
	PRIMARY KEY (conversation_id, turn, idx),
	FOREIGN KEY (conversation_id, turn) REFERENCES turns ON DELETE CASCADE
);

CREATE TABLE tasks (
	id		bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	user_id		text NOT NULL,
	title		text NOT NULL CHECK (char_length(title) BETWEEN 1 AND 255),
	description	text NOT NULL DEFAULT '' CHECK (char_length(description) <= 5000),
	status		text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'completed')),
	created_at	timestamptz NOT NULL DEFAULT now(),
	updated_at	timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ON tasks (user_id, id DESC);
