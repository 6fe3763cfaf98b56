// An event stream read from a fetch (EventSource knows neither POST nor headers).
// Yields { event, id, data }.  Throws when the connection breaks, and when it is silent
// for longer than the server ever is: it sends a comment every 15 seconds.  first: how long its first
// bytes may take.

import { Offline } from "./failure.js";

export async function* events(answer, silence, first = silence) {
	const reader = answer.body.getReader();
	const decoder = new TextDecoder();
	let rest = "";
	let patience = first;

	try {
		for (;;) {
			const { done, value } = await next(reader, patience);
			patience = silence;
			if (done)
				return;
			rest += decoder.decode(value, { stream: true });
			let end;
			while ((end = rest.indexOf("\n\n")) >= 0) {
				const event = fields(rest.slice(0, end));
				rest = rest.slice(end + 2);
				if (event)
					yield event;
			}
		}
	} finally {
		reader.cancel().catch(() => {});
	}
}

async function next(reader, silence) {
	let timer;
	const late = new Promise((_, reject) => {
		timer = setTimeout(() => reject(new Offline(true)), silence);
	});

	try {
		return await Promise.race([reader.read(), late]);
	} catch (error) {
		throw error instanceof Offline ? error : new Offline();
	} finally {
		clearTimeout(timer);
	}
}

function fields(block) {
	const out = { event: "message", id: null, data: null };
	let data = "";

	for (const line of block.split(/\r?\n/)) {
		const m = /^(event|id|data): ?(.*)$/s.exec(line);
		if (!m)
			continue;
		if (m[1] === "data")
			data += m[2];
		else
			out[m[1]] = m[2];
	}
	if (data === "")
		return null;
	try {
		out.data = JSON.parse(data);
	} catch {
		return null;
	}
	return out;
}
