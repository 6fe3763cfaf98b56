"""The FastAPI peer of the bench: FastAPI, uvicorn and asyncpg.

    uvicorn --app-dir fastapi app:app --uds SOCKET --loop uvloop --http httptools

The store is asyncpg's pool and plain SQL: asyncpg prepares each statement once a connection.  What
belongs together is one statement where it can be; shared/service.py is the rest of the service.
"""

import json
import logging
import os
import uuid

import asyncpg

from service import HISTORY, POOL, ToolError, Turn, compact, do_call, history_of, make_app, not_begun

BEGIN_NEW = """
    WITH c AS (INSERT INTO conversations (id, user_id, title, live_until)
               VALUES ($1, $2, left($4, 80), now() + interval '100 s') RETURNING id),
         t AS (INSERT INTO turns (conversation_id, turn) SELECT id, 1 FROM c)
    INSERT INTO messages (conversation_id, turn, idx, id, role, content) SELECT id, 1, 0, $3, 'user', $4 FROM c
    RETURNING turn"""
BEGIN_SAME = """
    WITH c AS (UPDATE conversations SET turns = turns + 1, live_until = now() + interval '100 s', updated_at = now()
                WHERE id = $1 AND user_id = $2 AND (live_until IS NULL OR live_until < now()) RETURNING id, turns),
         t AS (INSERT INTO turns (conversation_id, turn) SELECT id, turns FROM c)
    INSERT INTO messages (conversation_id, turn, idx, id, role, content) SELECT id, turns, 0, $3, 'user', $4 FROM c
    RETURNING turn"""
EXISTS = "SELECT true FROM conversations WHERE id = $1 AND user_id = $2"
READ = """
    SELECT role, content, tool_calls, tool_call_id FROM messages WHERE conversation_id = $1 AND turn < $2
     ORDER BY turn DESC, idx DESC LIMIT $3"""
STEP = """
    INSERT INTO messages (conversation_id, turn, idx, id, role, content, tool_calls)
    VALUES ($1, $2, $3, $4, 'assistant', $5, $6)"""
RESULT = """
    INSERT INTO messages (conversation_id, turn, idx, id, role, content, tool_call_id)
    VALUES ($1, $2, $3, $4, 'tool', $5, $6)"""
END = """
    WITH t AS (UPDATE turns SET state = 'done', ended_at = now(), input_tokens = $6, output_tokens = $7
                WHERE conversation_id = $1 AND turn = $2 AND state = 'running' RETURNING conversation_id, turn),
         c AS (UPDATE conversations SET live_until = NULL, updated_at = now() WHERE id = $1 AND turns = $2)
    INSERT INTO messages (conversation_id, turn, idx, id, role, content)
    SELECT conversation_id, turn, $3, $4, 'assistant', $5 FROM t"""
FAIL = """
    WITH t AS (UPDATE turns SET state = 'failed', ended_at = now(), error_code = $3
                WHERE conversation_id = $1 AND turn = $2 AND state = 'running')
    UPDATE conversations SET live_until = NULL, updated_at = now() WHERE id = $1 AND turns = $2"""

SHOWN = "id, title, description, status"
ADD = f"INSERT INTO tasks (user_id, title, description) VALUES ($1, $2, $3) RETURNING {SHOWN}"
LIST = f"SELECT {SHOWN} FROM tasks WHERE user_id = $1 AND ($2 = 'all' OR status = $2) ORDER BY id DESC LIMIT 100"
CHANGE = f"""
    UPDATE tasks SET title = coalesce($3, title), description = coalesce($4, description),
           status = coalesce($5, status), updated_at = now()
     WHERE user_id = $1 AND id = $2 RETURNING {SHOWN}"""
DELETE = f"DELETE FROM tasks WHERE user_id = $1 AND id = $2 RETURNING {SHOWN}"


class Connection(asyncpg.Connection):
    """Nothing here changes a session, so nothing is to be reset when a connection goes back."""

    def get_reset_query(self):
        return ""


class Store:
    async def open(self):
        self.pool = await asyncpg.create_pool(os.environ["PEER_DATABASE"], min_size=POOL, max_size=POOL,
                                              connection_class=Connection)

    async def close(self):
        await self.pool.close()

    async def ping(self):
        await self.pool.fetchval("SELECT 1")

    async def begin(self, user, conversation_id, message):
        message_id = uuid.uuid4()
        if conversation_id is None:
            conversation_id = uuid.uuid4()
            await self.pool.execute(BEGIN_NEW, conversation_id, user, message_id, message)
            return Turn(user, conversation_id, 1, message, message_id, [])
        async with self.pool.acquire() as db:
            number = await db.fetchval(BEGIN_SAME, conversation_id, user, message_id, message)
            if number is None:
                raise not_begun(await db.fetchval(EXISTS, conversation_id, user))
            rows = await db.fetch(READ, conversation_id, number, HISTORY - 1)
        history = history_of([(r[0], r[1], r[2] and json.loads(r[2]), r[3]) for r in rows])
        return Turn(user, conversation_id, number, message, message_id, history)

    async def step(self, turn, message_id, text, calls):
        """What the model said, what its calls did, and their results: all of it or nothing."""
        key = (turn.conversation_id, turn.number)
        async with self.pool.acquire() as db, db.transaction():
            await db.execute(STEP, *key, turn.idx, message_id, text, compact([c.stored() for c in calls]))
            for n, call in enumerate(calls, 1):
                await do_call(call, lambda name, p: tool(db, turn.user, name, p))
                await db.execute(RESULT, *key, turn.idx + n, uuid.uuid4(), compact(call.result), call.call_id)

    async def end(self, turn, message_id, text):
        await self.pool.execute(END, turn.conversation_id, turn.number, turn.idx, message_id, text,
                                turn.input_tokens, turn.output_tokens)

    async def fail(self, turn, code):
        await self.pool.execute(FAIL, turn.conversation_id, turn.number, code)


async def tool(db, user, name, p):
    title, description = p.get("title"), p.get("description")
    if not 1 <= len(title or "x") <= 255 or len(description or "") > 5000:
        raise ToolError("The title or the description is too long.")
    if name == "list_tasks":
        return {"tasks": [dict(r) for r in await db.fetch(LIST, user, p.get("status", "all"))]}
    if name == "add_task":
        if not title:
            raise ToolError("Title is required.")
        row, status = await db.fetchrow(ADD, user, title, description or ""), "created"
    elif not isinstance(p.get("task_id"), int):
        raise ToolError("task_id is required.")
    elif name == "complete_task":
        row, status = await db.fetchrow(CHANGE, user, p["task_id"], None, None, "completed"), "completed"
    elif name == "update_task":
        row, status = await db.fetchrow(CHANGE, user, p["task_id"], title, description, None), "updated"
    elif name == "delete_task":
        row, status = await db.fetchrow(DELETE, user, p["task_id"]), "deleted"
    else:
        raise ToolError(f"There is no tool {name}.")
    if row is None:
        raise ToolError(f"There is no task {p['task_id']}.")
    return {"task_id": row["id"], "status": status, "title": row["title"], "task": dict(row)}


app = make_app(Store(), logging.getLogger("uvicorn.error"))
