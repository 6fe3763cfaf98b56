// The Node peer's store: pg with named statements, so that each is prepared once a connection.  Each function
// is one committed transaction; what belongs together is one statement where it can be.
import { randomUUID } from 'node:crypto';
import { createRequire } from 'node:module';

import { ApiError, ToolError } from './errors.mjs';

const require = createRequire(process.env.PARLEY_NODE_DIR + '/package.json');
const { Pool } = require('pg');

const HISTORY = 50;
const SHOWN = 'id::int, title, description, status';
const SQL = {
	beginNew: `
	    WITH c AS (INSERT INTO conversations (id, user_id, title, live_until)
	               VALUES ($1, $2, left($4, 80), now() + interval '100 s') RETURNING id),
	         t AS (INSERT INTO turns (conversation_id, turn) SELECT id, 1 FROM c)
	    INSERT INTO messages (conversation_id, turn, idx, id, role, content) SELECT id, 1, 0, $3, 'user', $4 FROM c
	    RETURNING turn`,
	beginSame: `
	    WITH c AS (UPDATE conversations SET turns = turns + 1, live_until = now() + interval '100 s', updated_at = now()
	                WHERE id = $1 AND user_id = $2 AND (live_until IS NULL OR live_until < now()) RETURNING id, turns),
	         t AS (INSERT INTO turns (conversation_id, turn) SELECT id, turns FROM c)
	    INSERT INTO messages (conversation_id, turn, idx, id, role, content) SELECT id, turns, 0, $3, 'user', $4 FROM c
	    RETURNING turn`,
	exists: 'SELECT true FROM conversations WHERE id = $1 AND user_id = $2',
	read: `
	    SELECT role, content, tool_calls, tool_call_id FROM messages WHERE conversation_id = $1 AND turn < $2
	     ORDER BY turn DESC, idx DESC LIMIT $3`,
	step: `
	    INSERT INTO messages (conversation_id, turn, idx, id, role, content, tool_calls)
	    VALUES ($1, $2, $3, $4, 'assistant', $5, $6)`,
	result: `
	    INSERT INTO messages (conversation_id, turn, idx, id, role, content, tool_call_id)
	    VALUES ($1, $2, $3, $4, 'tool', $5, $6)`,
	end: `
	    WITH t AS (UPDATE turns SET state = 'done', ended_at = now(), input_tokens = $6, output_tokens = $7
	                WHERE conversation_id = $1 AND turn = $2 AND state = 'running' RETURNING conversation_id, turn),
	         c AS (UPDATE conversations SET live_until = NULL, updated_at = now() WHERE id = $1 AND turns = $2)
	    INSERT INTO messages (conversation_id, turn, idx, id, role, content)
	    SELECT conversation_id, turn, $3, $4, 'assistant', $5 FROM t`,
	fail: `
	    WITH t AS (UPDATE turns SET state = 'failed', ended_at = now(), error_code = $3
	                WHERE conversation_id = $1 AND turn = $2 AND state = 'running')
	    UPDATE conversations SET live_until = NULL, updated_at = now() WHERE id = $1 AND turns = $2`,
	add: `INSERT INTO tasks (user_id, title, description) VALUES ($1, $2, $3) RETURNING ${SHOWN}`,
	list: `SELECT ${SHOWN} FROM tasks WHERE user_id = $1 AND ($2 = 'all' OR status = $2) ORDER BY tasks.id DESC LIMIT 100`,
	change: `
	    UPDATE tasks SET title = coalesce($3, title), description = coalesce($4, description),
	           status = coalesce($5, status), updated_at = now()
	     WHERE user_id = $1 AND id = $2 RETURNING ${SHOWN}`,
	delete: `DELETE FROM tasks WHERE user_id = $1 AND id = $2 RETURNING ${SHOWN}`,
};

let pool;

async function query(db, name, values) {
	return (await db.query({ name, text: SQL[name], values })).rows;
}

export async function open() {
	const size = Number(process.env.PEER_POOL ?? 10);
	pool = new Pool({ connectionString: process.env.PEER_DATABASE, max: size, min: size, idleTimeoutMillis: 0 });
	pool.on('error', e => console.error(e));
	const all = await Promise.all(Array.from({ length: size }, () => pool.connect()));
	all.forEach(db => db.release());
}

export function ping() {
	return pool.query('SELECT 1');
}

export function storedCall(c) {
	return { id: c.callId, name: c.name, arguments: c.arguments };
}

// The model's view of rows, newest first.
export function historyOf(rows) {
	const out = rows.map(r => ({
		role: r.role,
		content: r.tool_calls ? r.content || null : r.content,
		...(r.tool_calls ? { tool_calls: r.tool_calls.map(c =>
		    ({ id: c.id, type: 'function', function: { name: c.name, arguments: c.arguments } })) } : {}),
		...(r.tool_call_id != null ? { tool_call_id: r.tool_call_id } : {}),
	}));
	// A result whose call was cut off means nothing.
	while (out.at(-1)?.role === 'tool')
		out.pop();
	return out.reverse();
}

export async function begin(user, id, message) {
	const conversation = id ?? randomUUID();
	const messageId = randomUUID();
	const values = [conversation, user, messageId, message];
	let number = 1;
	let history = [];
	if (id === null)
		await query(pool, 'beginNew', values);
	else {
		[{ turn: number } = {}] = await query(pool, 'beginSame', values);
		if (number === undefined)
			throw (await query(pool, 'exists', [id, user])).length > 0 ?
			    new ApiError(409, 'conversation_busy', 'This conversation is still being answered. Try again in a moment.') :
			    new ApiError(404, 'conversation_not_found', 'There is no conversation with this id.');
		history = historyOf(await query(pool, 'read', [id, number, HISTORY - 1]));
	}
	history.push({ role: 'user', content: message });
	return { user, conversation, number, message, messageId, history, idx: 1, calls: [], messages: [], inputTokens: 0,
	    outputTokens: 0 };
}

async function callTool(db, user, call) {
	const began = performance.now();
	call.executedAt = new Date();
	try {
		if (!call.isError)
			call.result = await tool(db, user, call.name, call.parameters);
	} catch (e) {
		if (!(e instanceof ToolError))
			throw e;
		call.result = { error: e.message };
		call.isError = true;
	}
	call.duration = Math.trunc(performance.now() - began);
}

// What the model said, what its calls did, and their results: all of it or nothing.
export async function step(turn, id, text, calls) {
	const db = await pool.connect();
	let broken;
	try {
		await db.query('BEGIN');
		await query(db, 'step', [turn.conversation, turn.number, turn.idx, id, text, JSON.stringify(calls.map(storedCall))]);
		for (const [n, call] of calls.entries()) {
			await callTool(db, turn.user, call);
			await query(db, 'result', [turn.conversation, turn.number, turn.idx + 1 + n, randomUUID(),
			    JSON.stringify(call.result), call.callId]);
		}
		await db.query('COMMIT');
	} catch (e) {
		await db.query('ROLLBACK').catch(lost => { broken = lost; });
		throw e;
	} finally {
		db.release(broken);
	}
}

export function end(turn, id, text) {
	return query(pool, 'end', [turn.conversation, turn.number, turn.idx, id, text, turn.inputTokens, turn.outputTokens]);
}

export function fail(turn, code) {
	return query(pool, 'fail', [turn.conversation, turn.number, code]);
}

async function tool(db, user, name, p) {
	const { title, description } = p;
	if ([...(title ?? 'x')].length > 255 || title === '' || [...(description ?? '')].length > 5000)
		throw new ToolError('The title or the description is too long.');
	if (name === 'list_tasks')
		return { tasks: await query(db, 'list', [user, p.status ?? 'all']) };
	if (name === 'add_task') {
		if (!title)
			throw new ToolError('Title is required.');
		return one(await query(db, 'add', [user, title, description ?? '']), 'created');
	}
	if (!Number.isInteger(p.task_id))
		throw new ToolError('task_id is required.');
	if (name === 'complete_task')
		return one(await query(db, 'change', [user, p.task_id, null, null, 'completed']), 'completed', p.task_id);
	if (name === 'update_task')
		return one(await query(db, 'change', [user, p.task_id, title ?? null, description ?? null, null]), 'updated', p.task_id);
	if (name === 'delete_task')
		return one(await query(db, 'delete', [user, p.task_id]), 'deleted', p.task_id);
	throw new ToolError(`There is no tool ${name}.`);
}

function one([task], status, id) {
	if (!task)
		throw new ToolError(`There is no task ${id}.`);
	return { task_id: task.id, status, title: task.title, task };
}
