// The token, and where it comes from: the address (#token=…), the site's cookie
// (config.token_url), or the person, who is asked to paste one.
//
// Requests never fail for want of a token: they wait here until there is one.

import { config } from "../config.js";
import * as storage from "../storage.js";
import { Offline } from "./failure.js";

let current = null;
let fetching = null;	// one fetch of a token at a time
let asked = null;	// { promise, resolve }: the person is being asked
let ask = () => {};	// shows the question

export function onAsk(show) {
	ask = show;
}

// Takes a token out of the address before anybody can read it there.
export function startAuth() {
	const fragment = new URLSearchParams(location.hash.replace(/^#\/?/, ""));
	const given = fragment.get("token");

	if (given) {
		fragment.delete("token");
		history.replaceState(null, "", location.pathname + location.search);
		storage.set("token", given);
	}
	current = storage.get("token");
}

function claims(token) {
	try {
		const bytes = atob(token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/"));
		return JSON.parse(new TextDecoder().decode(Uint8Array.from(bytes, (c) => c.charCodeAt(0))));
	} catch {
		return {};
	}
}

// Whose drafts and messages these are; only ever a name for storage, the server knows for itself.
export const user = () => (current ? claims(current).sub ?? "" : "");

const isStale = (token) => (claims(token).exp ?? Infinity) * 1000 < Date.now() + 10000;

export async function token() {
	if (current && config.token_url && isStale(current))
		return renew(current);
	return current ?? renew(null);
}

// The server has refused this one: another is found, or this waits for the person.
export async function renew(bad) {
	if (current !== bad)
		return current;
	if (config.token_url) {
		fetching ??= fetchToken().finally(() => { fetching = null; });
		const fresh = await fetching;
		if (fresh && fresh !== bad)
			return use(fresh);
	}
	if (!asked) {
		let resolve;
		asked = { promise: new Promise((r) => { resolve = r; }), resolve };
		ask(bad ? "expired" : "missing");
	}
	return asked.promise;
}

async function fetchToken() {
	let answer;

	try {
		answer = await fetch(config.token_url, { credentials: "include", cache: "no-store", headers: { Accept: "application/json" } });
	} catch {
		throw new Offline();
	}
	if (!answer.ok) {
		if (answer.status >= 500)
			throw new Offline();
		return null;
	}
	const text = (await answer.text()).trim();
	try {
		const body = JSON.parse(text);
		return typeof body === "string" ? body : body.token ?? null;
	} catch {
		return text;
	}
}

function use(fresh) {
	const before = user();
	current = fresh;
	if (before !== "" && user() !== before) {
		// Somebody else: nothing of the first person may stay in this page's memory.
		storage.set("token", config.token_url ? null : fresh);
		location.hash = "";
		location.reload();
	}
	return fresh;
}

// The person has pasted a token, or has come back from signing in.
export function give(text) {
	const fresh = text.trim().replace(/^Bearer\s+/i, "");
	if (!config.token_url)
		storage.set("token", fresh);
	use(fresh);
	asked?.resolve(fresh);
	asked = null;
}

export const looksLikeToken = (text) => /^(?:Bearer\s+)?[\w-]+\.[\w-]+\.[\w-]+$/i.test(text.trim());

export const canForget = () => !config.token_url;

export function forget() {
	storage.set("token", null);
	location.hash = "";
	location.reload();
}
