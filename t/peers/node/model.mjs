// The Node peer's model: one request, its answer read as it streams.
import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

import { ApiError } from './errors.mjs';

const require = createRequire(process.env.PARLEY_NODE_DIR + '/package.json');
const { Pool } = require('undici');

const INSTRUCTIONS = 'You are a helpful assistant who answers briefly and uses the tools to do what the user asks for.';
const tools = JSON.parse(readFileSync(process.env.PEER_TOOLS));
const url = new URL(process.env.PEER_MODEL_URL);
// Turns are many, and each waits for the model at the same time.
const pool = new Pool(url.origin, { connections: null, pipelining: 1, headersTimeout: 100000, bodyTimeout: 100000 });
const weekday = new Intl.DateTimeFormat('en', { weekday: 'long', timeZone: 'UTC' });

function system() {
	const now = new Date();
	return { role: 'system', content: `${INSTRUCTIONS}\n\nThe user's local date and time: ${weekday.format(now)}, ` +
	    `${now.toISOString().slice(0, 16).replace('T', ' ')} (UTC).` };
}

function addCall(calls, part) {
	const call = calls[part.index ?? 0] ??=
	    { id: randomUUID(), callId: '', name: '', arguments: '', parameters: {}, result: null, isError: false, duration: 0 };
	call.callId = part.id ?? call.callId;
	call.name += part.function?.name ?? '';
	call.arguments += part.function?.arguments ?? '';
}

function take(reply, data, onText) {
	if (data === '[DONE]')
		return;
	const event = JSON.parse(data);
	if (event.usage) {
		reply.inputTokens = event.usage.prompt_tokens ?? 0;
		reply.outputTokens = event.usage.completion_tokens ?? 0;
	}
	for (const choice of event.choices ?? []) {
		const delta = choice.delta ?? {};
		if (delta.content) {
			reply.text += delta.content;
			onText(delta.content);
		}
		for (const part of delta.tool_calls ?? [])
			addCall(reply.calls, part);
		reply.ended ||= choice.finish_reason != null;
	}
}

async function read(body, onText) {
	const reply = { text: '', calls: [], inputTokens: 0, outputTokens: 0, ended: false };
	let rest = '';
	body.setEncoding('utf8');
	for await (const part of body) {
		const lines = (rest + part).split('\n');
		rest = lines.pop();
		for (const line of lines)
			if (line.startsWith('data:'))
				take(reply, line.slice(5).trim(), onText);
	}
	return reply;
}

export async function ask(messages, onText, signal) {
	const body = JSON.stringify({ model: process.env.PEER_MODEL, stream: true, stream_options: { include_usage: true },
	    messages: [system(), ...messages], tools });
	let reply;
	try {
		const answer = await pool.request({ method: 'POST', path: `${url.pathname}/chat/completions`, body, signal,
		    headers: { 'content-type': 'application/json', accept: 'text/event-stream' } });
		if (answer.statusCode !== 200) {
			await answer.body.dump();
			const busy = answer.statusCode === 429 || answer.statusCode === 503;
			throw new ApiError(busy ? 503 : 502, busy ? 'model_unavailable' : 'model_error',
			    'The model could not answer. Try again in a moment.');
		}
		reply = await read(answer.body, onText);
	} catch (e) {
		if (e instanceof ApiError)
			throw e;
		if (e instanceof SyntaxError || e instanceof TypeError)
			throw new ApiError(502, 'model_error', 'The model answered something unusable.');
		throw new ApiError(503, 'model_unavailable', 'The model cannot be reached. Try again in a moment.');
	}
	if (!reply.ended)
		throw new ApiError(502, 'model_error', "The model's answer was cut off.");
	return reply;
}
