// All conversations: the list by recency, and those that are open in this page.

import * as http from "../net/http.js";
import { Conversation } from "./conversation.js";
import { Emitter } from "./emitter.js";

const PAGE = 30;
// What other devices do is seen this often, while somebody looks.
const LOOK = 20000;

export class Library extends Emitter {
	#open = new Map();
	#channel = "BroadcastChannel" in window ? new BroadcastChannel("parley") : null;

	constructor() {
		super();
		this.rows = [];
		this.next = null;
		this.query = "";
		this.loading = false;
		this.loaded = false;
		this.error = null;
		this.onElsewhere = () => {};	// (id): another tab has done something there
		this.#channel?.addEventListener("message", (event) => {
			this.read();
			this.onElsewhere(event.data);
		});
		setInterval(() => document.hidden || this.query || this.read(), LOOK);
	}

	// The first page; what was paged to further down stays.
	async read() {
		const query = this.query;

		this.loading = true;
		this.changed();
		try {
			const page = await http.json("GET", this.#path(query, null));
			if (query !== this.query)
				return;
			const fresh = new Set(page.conversations.map((c) => c.id));
			const tail = this.loaded === query && page.next_cursor ? this.rows.slice(page.conversations.length).filter((c) => !fresh.has(c.id)) : [];
			this.rows = [...page.conversations, ...tail];
			if (tail.length === 0)
				this.next = page.next_cursor;
			this.loaded = query;
			this.error = null;
		} catch (error) {
			this.error = error;
		}
		this.loading = false;
		this.changed();
	}

	async more() {
		if (!this.next || this.loading)
			return;
		this.loading = true;
		this.changed();
		try {
			const page = await http.json("GET", this.#path(this.query, this.next));
			const known = new Set(this.rows.map((c) => c.id));
			this.rows.push(...page.conversations.filter((c) => !known.has(c.id)));
			this.next = page.next_cursor;
		} catch (error) {
			this.error = error;
		}
		this.loading = false;
		this.changed();
	}

	search(query) {
		this.query = query.trim();
		return this.read();
	}

	#path(query, cursor) {
		const words = new URLSearchParams({ limit: String(PAGE) });
		if (query)
			words.set("q", query);
		if (cursor)
			words.set("cursor", cursor);
		return `/conversations?${words}`;
	}

	// An open one, or a new one for the id; null begins a new conversation.
	open(id) {
		let c = id ? this.#open.get(id) : null;
		if (c)
			return c;
		c = new Conversation(id);
		c.onStored = (x, turn, isNew) => {
			this.#open.set(x.id, x);
			if (isNew)
				c.onNew?.(x);
			this.#tell(x.id);
		};
		c.onChange = (x) => this.#tell(x.id);
		if (id)
			this.#open.set(id, c);
		return c;
	}

	#tell(id) {
		this.read();
		this.#channel?.postMessage(id);
	}

	row(id) {
		return this.rows.find((c) => c.id === id) ?? null;
	}

	// What the row says, unless this page knows better.
	stateOf(row) {
		const c = this.#open.get(row.id);
		if (c?.turns.some((x) => x.state === "approval_required"))
			return "approval_required";
		if (c?.live)
			return "running";
		return c?.turns.some((x) => x.n !== null) ? "idle" : row.state;
	}

	async remove(id) {
		await http.json("DELETE", `/conversations/${id}`);
		this.#open.get(id)?.leave();
		this.#open.delete(id);
		this.rows = this.rows.filter((c) => c.id !== id);
		this.changed();
		this.#channel?.postMessage(id);
	}
}
