// The Node peer of the bench: node:http, pg, undici, jose.
//
//	PEER_SOCKET=PATH node app.mjs		one process; nginx spreads the requests over several
//
// A chat service as a good engineer writes it: a pool of database connections of which none is held while
// the model is waited for, named (prepared) statements, undici's pool of kept connections to the model, whose
// answer is read as it streams.  A turn ends and is stored though its client goes away.  store.mjs has the SQL,
// model.mjs the model; the environment is the one that shared/service.py describes.
import { createSecretKey, randomUUID } from 'node:crypto';
import { chmodSync } from 'node:fs';
import { createServer, STATUS_CODES } from 'node:http';
import { createRequire } from 'node:module';

import { ask } from './model.mjs';
import { ApiError } from './errors.mjs';
import * as store from './store.mjs';

const require = createRequire(process.env.PARLEY_NODE_DIR + '/package.json');
const { jwtVerify } = require('jose');

const STEPS = 8;
const DEADLINE = 100000;
const BODY_MAX = 65536;
const MODEL = process.env.PEER_MODEL;
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;
const secret = createSecretKey(Buffer.from(process.env.PEER_SECRET));
const live = new Set();

async function userOf(request) {
	const [, token] = /^bearer +(\S+)$/i.exec(request.headers.authorization ?? '') ?? [];
	if (!token)
		throw new ApiError(401, 'missing_token', 'Sign in first: the request has no bearer token.');
	try {
		const { payload } = await jwtVerify(token, secret, { algorithms: ['HS256'], requiredClaims: ['exp', 'sub'] });
		if (typeof payload.sub === 'string' && payload.sub !== '')
			return payload.sub;
	} catch (e) {
		if (e.code === 'ERR_JWT_EXPIRED')
			throw new ApiError(401, 'token_expired', 'The session has expired. Sign in again.');
	}
	throw new ApiError(401, 'invalid_token', 'The token is not valid. Sign in again.');
}

async function bodyOf(request) {
	const parts = [];
	let size = 0;
	for await (const part of request) {
		parts.push(part);
		size += part.length;
		if (size > BODY_MAX)
			throw new ApiError(413, 'body_too_large', 'The request body is too large.');
	}
	let body;
	try {
		body = JSON.parse(Buffer.concat(parts));
	} catch {
		body = null;
	}
	if (body === null || typeof body !== 'object' || Array.isArray(body))
		throw new ApiError(400, 'invalid_json', 'The body is not one JSON object.');
	return checked(body);
}

function checked(body) {
	const invalid = (field, what) => new ApiError(422, 'validation_error', `${field} ${what}`, { field });
	const { message, conversation_id: id, stream } = body;
	if (typeof message !== 'string')
		throw invalid('message', 'is required and is a string.');
	const text = message.trim();
	const length = text.length <= 2000 ? text.length : [...text].length;
	if (length < 1 || length > 2000)
		throw invalid('message', 'must have 1 to 2000 characters.');
	if (id !== undefined && id !== null && (typeof id !== 'string' || !UUID.test(id)))
		throw invalid('conversation_id', 'is no UUID.');
	if (stream !== undefined && typeof stream !== 'boolean')
		throw invalid('stream', 'is true or false.');
	return { message: text, id: id ?? null, stream: stream ?? false };
}

function shownCall(c) {
	return { id: c.id, tool_name: c.name, parameters: c.parameters, result: c.result, is_error: c.isError,
	    executed_at: c.executedAt.toISOString(), duration_ms: c.duration };
}

function shownMessage(turn, role, content, id, calls) {
	return { id, turn: turn.number, turn_state: 'done', run: 1, role, content, created_at: new Date().toISOString(),
	    tool_calls: calls.map(shownCall), ...(role === 'assistant' ? { model: MODEL } : {}) };
}

function answerOf(turn, response) {
	return { status: 'success', conversation_id: turn.conversation, turn: turn.number, response,
	    tool_calls: turn.calls.map(shownCall), approvals_required: [], messages: turn.messages,
	    usage: { input_tokens: turn.inputTokens, output_tokens: turn.outputTokens },
	    model: MODEL, timestamp: new Date().toISOString() };
}

function readArguments(call) {
	try {
		call.parameters = JSON.parse(call.arguments || '{}');
	} catch {
		call.parameters = null;
	}
	if (call.parameters === null || typeof call.parameters !== 'object' || Array.isArray(call.parameters)) {
		call.parameters = {};
		call.result = { error: 'The arguments are not an object.' };
		call.isError = true;
	}
}

async function step(turn, reply, id, emit) {
	for (const c of reply.calls) {
		readArguments(c);
		emit('tool_call', { id: c.id, tool_name: c.name, parameters: c.parameters });
	}
	await store.step(turn, id, reply.text, reply.calls);
	turn.idx += 1 + reply.calls.length;
	turn.calls.push(...reply.calls);
	turn.messages.push(shownMessage(turn, 'assistant', reply.text, id, reply.calls));
	turn.history.push(...store.historyOf([
		...reply.calls.toReversed().map(c => ({ role: 'tool', content: JSON.stringify(c.result), tool_call_id: c.callId })),
		{ role: 'assistant', content: reply.text, tool_calls: reply.calls.map(store.storedCall) },
	]));
	for (const c of reply.calls)
		emit('tool_result', { id: c.id, result: c.result, is_error: c.isError, duration_ms: c.duration });
}

// Model, tools, model, … until there is an answer; each step is committed before the next.
async function run(turn, emit, signal) {
	turn.messages.push(shownMessage(turn, 'user', turn.message, turn.messageId, []));
	for (let n = 0; n < STEPS; n++) {
		const reply = await ask(turn.history, text => emit('delta', { text }), signal);
		const id = randomUUID();
		turn.inputTokens += reply.inputTokens;
		turn.outputTokens += reply.outputTokens;
		if (reply.calls.length === 0) {
			await store.end(turn, id, reply.text);
			turn.messages.push(shownMessage(turn, 'assistant', reply.text, id, []));
			return answerOf(turn, reply.text);
		}
		await step(turn, reply, id, emit);
	}
	throw new ApiError(500, 'too_many_steps', 'The assistant did not come to an end.');
}

async function carryOut(turn, emit) {
	const late = new AbortController();
	const timer = setTimeout(() => late.abort(), DEADLINE);
	try {
		return await run(turn, emit, late.signal);
	} catch (e) {
		let error = e;
		if (late.signal.aborted)
			error = new ApiError(504, 'turn_timeout', 'The answer took too long.');
		else if (!(e instanceof ApiError)) {
			console.error(e);
			error = new ApiError(500, 'internal_error', 'Something went wrong on the server.');
		}
		error.more = { conversation_id: turn.conversation, turn: turn.number };
		await store.fail(turn, error.code);
		throw error;
	} finally {
		clearTimeout(timer);
	}
}

function sendJson(response, requestId, status, body, headers = {}) {
	const bytes = Buffer.from(JSON.stringify(body));
	response.writeHead(status, { 'Content-Type': 'application/json', 'Content-Length': bytes.length,
	    'Cache-Control': 'no-store', 'X-Request-Id': requestId, ...headers });
	response.end(bytes);
}

function sendError(response, requestId, e) {
	const body = { status: 'error', error: STATUS_CODES[e.status], error_code: e.code, message: e.message,
	    request_id: requestId, ...e.more };
	if (response.headersSent) {
		response.end(`event: error\nid: error\ndata: ${JSON.stringify(body)}\n\n`);
		return;
	}
	sendJson(response, requestId, e.status, body, {
		...(e.status === 401 ? { 'WWW-Authenticate': 'Bearer realm="peer"' } : {}),
		...(e.status === 409 || e.status === 503 ? { 'Retry-After': '1' } : {}),
	});
}

async function stream(turn, response, requestId) {
	let number = 0;
	// To a client that has gone nothing is written; the turn does not mind.
	const emit = (event, data) => response.destroyed ||
	    response.write(`event: ${event}\nid: ${number++}\ndata: ${JSON.stringify(data)}\n\n`);
	response.writeHead(200, { 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-cache',
	    'X-Accel-Buffering': 'no', 'X-Request-Id': requestId });
	emit('turn', { conversation_id: turn.conversation, turn: turn.number, message_id: turn.messageId });
	emit('done', await carryOut(turn, emit));
	response.end();
}

async function chat(request, response, requestId) {
	const user = await userOf(request);
	const body = await bodyOf(request);
	const turn = await store.begin(user, body.id, body.message);
	if (body.stream || (request.headers.accept ?? '').includes('text/event-stream'))
		return stream(turn, response, requestId);
	sendJson(response, requestId, 200, await carryOut(turn, () => undefined));
}

async function route(request, response, requestId) {
	const path = request.url.split('?')[0];
	if (path === '/api/health' && request.method === 'GET') {
		await store.ping();
		return sendJson(response, requestId, 200, { status: 'ok', database: 'ok' });
	}
	if (path !== '/api/chat')
		throw new ApiError(404, 'not_found', 'There is nothing at this address.');
	if (request.method !== 'POST')
		throw new ApiError(405, 'method_not_allowed', 'This method is not possible here.');
	return chat(request, response, requestId);
}

function handle(request, response) {
	const requestId = randomUUID();
	const work = route(request, response, requestId).catch(e => {
		if (!(e instanceof ApiError))
			console.error(e);
		sendError(response, requestId, e instanceof ApiError ? e :
		    new ApiError(500, 'internal_error', 'Something went wrong on the server.'));
	}).finally(() => live.delete(work));
	live.add(work);
}

await store.open();
const server = createServer({ keepAliveTimeout: 75000 }, handle);
server.listen({ path: process.env.PEER_SOCKET, backlog: 4096 }, () => chmodSync(process.env.PEER_SOCKET, 0o666));
process.once('SIGTERM', async () => {
	server.close();
	server.closeIdleConnections();
	await Promise.race([Promise.allSettled(live), new Promise(done => setTimeout(done, 5000))]);
	process.exit(0);
});
