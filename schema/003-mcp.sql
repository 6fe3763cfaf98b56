-- What is known of a user with servers of tools (MCP).
SET LOCAL ROLE parley_owner;
SET LOCAL client_min_messages = warning;

CREATE TABLE parley.mcp_sessions (
	user_id		text COLLATE "C" NOT NULL CHECK (user_id <> ''),
	server		text COLLATE "C" NOT NULL,
	url		text NOT NULL,
	version		text,
	session		text,
	opened_at	timestamptz NOT NULL,
	tools		text,
	tools_until	timestamptz,
	PRIMARY KEY (user_id, server)
) WITH (fillfactor = 70);
COMMENT ON TABLE parley.mcp_sessions IS 'What MCP servers know of a user, and showed to this user: sessions, and lists of tools of servers that are asked with the user''s own token. Forgotten, it is begun anew.';
COMMENT ON COLUMN parley.mcp_sessions.user_id IS 'Whose it is.';
COMMENT ON COLUMN parley.mcp_sessions.server IS 'The server, as the configuration names it.';
COMMENT ON COLUMN parley.mcp_sessions.url IS 'Its address: with another one nothing of this row counts.';
COMMENT ON COLUMN parley.mcp_sessions.version IS 'The revision of the protocol that was agreed on; NULL: nothing was yet.';
COMMENT ON COLUMN parley.mcp_sessions.session IS 'The id that the server gave; NULL: it has no sessions.';
COMMENT ON COLUMN parley.mcp_sessions.opened_at IS 'Since when.';
COMMENT ON COLUMN parley.mcp_sessions.tools IS 'The tools that the server showed this user, a JSON array; NULL: it did not answer.';
COMMENT ON COLUMN parley.mcp_sessions.tools_until IS 'Until when that counts; NULL: it was not asked.';
ALTER TABLE parley.mcp_sessions ENABLE ROW LEVEL SECURITY;
ALTER TABLE parley.mcp_sessions FORCE ROW LEVEL SECURITY;
CREATE POLICY own_rows ON parley.mcp_sessions
    USING (user_id = nullif(current_setting('parley.user_id', true), ''));
GRANT SELECT, INSERT, UPDATE, DELETE ON parley.mcp_sessions TO parley_worker;

COMMENT ON COLUMN parley.facts.key IS 'hold:BASE_URL MODEL: that model is not to be asked before expires_at. jwks:URL: the issuer''s keys. claim:KEY: who may ask for them, and when next. mcp:era:NAME|URL: the revision that a server of tools speaks. mcp:tools:NAME|URL|WANTED: its tools, those that the configuration wants.';
RESET ROLE;
