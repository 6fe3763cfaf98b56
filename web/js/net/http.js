// Requests to the API: with a token, with the errors of the API as Refusal, and with
// a second try when the token has expired.

import { config } from "../config.js";
import * as auth from "./auth.js";
import { Offline, Refusal } from "./failure.js";

// A server that takes longer than this to begin an answer is not there; streams
// begin at once, and only who says so waits longer.
const PATIENCE = 30000;

export async function send(method, path, { body, headers, signal, patience = PATIENCE } = {}) {
	for (;;) {
		const token = await auth.token();
		const answer = await attempt(method, path, { body, headers, signal, patience, token });
		if (answer.status === 401) {
			await auth.renew(token);
			continue;
		}
		if (answer.ok)
			return answer;
		throw await refusal(answer);
	}
}

async function attempt(method, path, { body, headers, signal, patience, token }) {
	const slow = new AbortController();
	let late = false;
	const timer = setTimeout(() => { late = true; slow.abort(); }, patience);
	const stop = () => slow.abort();

	signal?.addEventListener("abort", stop);
	if (signal?.aborted)
		slow.abort();
	try {
		return await fetch(`${config.api}${path}`, {
			method, signal: slow.signal, cache: "no-store",
			headers: { Authorization: `Bearer ${token}`, ...(body ? { "Content-Type": "application/json" } : {}), ...headers },
			body: body ? JSON.stringify(body) : undefined,
		});
	} catch {
		throw new Offline(late);
	} finally {
		// The signal stays: it also ends the reading of the body.
		clearTimeout(timer);
	}
}

async function refusal(answer) {
	let body = null;

	try {
		body = await answer.json();
	} catch {
		// Not the API's: some proxy's page, in whatever form.
	}
	const wait = parseInt(answer.headers.get("Retry-After") ?? "", 10);
	// A gateway that stands before the API says that nobody is there.
	if (!body?.error_code && [502, 503, 504].includes(answer.status))
		return new Offline();
	return new Refusal(answer.status, body, Number.isNaN(wait) ? null : wait);
}

export async function json(method, path, options) {
	const answer = await send(method, path, options);
	if (answer.status === 204)
		return null;
	try {
		return await answer.json();
	} catch {
		throw new Offline();
	}
}
