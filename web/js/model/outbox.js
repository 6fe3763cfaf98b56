// Messages that have not reached the server yet, kept where a reload finds them: each with its
// Idempotency-Key, so that sending it again cannot double it (keys live for 24 hours).
// Also the drafts: what is typed and not sent, for each conversation.

import * as storage from "../storage.js";
import { user } from "../net/auth.js";

const DAY = 24 * 60 * 60 * 1000;
const box = () => `outbox.${user()}`;

export function pending() {
	return storage.get(box(), []).filter((m) => Date.now() - m.at < DAY);
}

export function keep(message) {
	storage.set(box(), [...pending().filter((m) => m.key !== message.key), message]);
}

export function drop(key) {
	const left = pending().filter((m) => m.key !== key);
	storage.set(box(), left.length > 0 ? left : null);
}

const draft = (id) => `draft.${user()}.${id ?? "new"}`;

export const readDraft = (id) => storage.get(draft(id), "");
export const writeDraft = (id, text) => storage.set(draft(id), text === "" ? null : text);

// crypto.randomUUID is there only on https and localhost.
export function newKey() {
	const bytes = crypto.getRandomValues(new Uint8Array(16));
	return Array.from(bytes, (b) => b.toString(16).padStart(2, "0")).join("");
}
