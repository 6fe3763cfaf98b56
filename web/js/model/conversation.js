// One conversation: its turns in order, read page by page, and what the person does in it.

import * as http from "../net/http.js";
import { Refusal } from "../net/failure.js";
import { Emitter } from "./emitter.js";
import * as outbox from "./outbox.js";
import { Runner } from "./runner.js";
import { Turn } from "./turn.js";

const PAGE = 50;

// The server did not begin what it was asked to begin.
const REFUSALS = new Set(["turn_not_retryable", "conversation_busy", "queue_full", "rate_limited", "budget_exceeded", "overloaded",
	"database_unavailable"]);

export class Conversation extends Emitter {
	constructor(id = null) {
		super();
		this.id = id;		// null: nothing has been stored of it yet
		this.title = null;
		this.turns = [];
		this.older = null;	// the cursor of the next older page
		this.loading = false;
		this.loaded = id === null;
		this.error = null;
		this.isShown = false;
		this.onStored = () => {};	// (conversation, turn): the list wants to know
		this.onChange = () => {};
	}

	// --- reading

	// The newest page; turns that are followed here keep what they have heard.
	async read() {
		if (!this.id || this.loading)
			return;
		this.loading = true;
		this.error = null;
		this.changed();
		try {
			const page = await http.json("GET", `/conversations/${this.id}?limit=${PAGE}`);
			this.title = page.conversation.title;
			if (!this.loaded)
				this.older = page.next_cursor;
			this.loaded = true;
			this.#merge(page.messages);
			this.#takeUp();
		} catch (error) {
			this.error = error;
		}
		this.loading = false;
		this.changed();
	}

	async readOlder() {
		if (!this.older || this.loading)
			return;
		this.loading = true;
		this.changed();
		try {
			const page = await http.json("GET", `/conversations/${this.id}?limit=${PAGE}&cursor=${encodeURIComponent(this.older)}`);
			this.older = page.next_cursor;
			this.#merge(page.messages);
		} catch {
			// The button to do it again is still there.
		}
		this.loading = false;
		this.changed();
	}

	#merge(messages) {
		const groups = Map.groupBy ? Map.groupBy(messages, (m) => m.turn) : group(messages);

		for (const [n, rows] of groups) {
			let turn = this.turns.find((x) => x.n === n);
			if (turn?.runner)
				continue;
			if (!turn) {
				turn = new Turn({ n });
				this.turns.push(turn);
			}
			// A page may begin in the middle of a turn.
			const known = turn.rows.filter((r) => r.run === rows[0].run && !rows.some((m) => m.id === r.id));
			turn.setRows([...known, ...rows].sort((a, b) => (a.created_at < b.created_at ? -1 : a.created_at > b.created_at ? 1 : 0)));
		}
		this.turns.sort((a, b) => (a.n ?? Infinity) - (b.n ?? Infinity) || 0);
	}

	// Follows what runs, also what another tab or device has begun, and asks what waits for a yes.
	#takeUp() {
		for (const turn of this.turns)
			if (turn.n !== null && !turn.runner && (turn.isLive || turn.state === "approval_required"))
				this.#follow(turn);
	}

	async #follow(turn, first = null) {
		if (turn.state === "approval_required" && !first) {
			// Only the turn itself says what the question was.
			try {
				turn.onDone(await http.json("GET", `/conversations/${this.id}/turns/${turn.n}`));
				turn.changed();
			} catch {
				// The next look asks again.
			}
			if (!turn.isLive)
				return;
		}
		const runner = new Runner(this, turn, first);
		await runner.run();
		this.onChange(this);
		// What was there before is still what there is.
		if (first?.path.endsWith("/retry") && turn.state === "failed" && REFUSALS.has(turn.error?.code) && turn.rows.length > 0) {
			const { error } = turn;
			turn.setRows(turn.rows);
			turn.error = error;
		}
		if (first?.body.approvals && turn.state === "failed" && turn.error?.code.startsWith("approval_"))
			await this.#decidedElsewhere(turn);
		// Those that waited behind it have begun at the server.
		this.changed();
	}

	// Another tab was quicker, or the question has expired: the turn itself knows.
	async #decidedElsewhere(turn) {
		turn.error = null;
		turn.state = "approval_required";
		await this.#follow(turn);
	}

	// Does a turn of this page run before this one?
	hasEarlier(turn) {
		const at = this.turns.indexOf(turn);
		return this.turns.some((x, i) => i < at && x.runner && x.state === "running");
	}

	get live() {
		return this.turns.find((x) => x.isLive) ?? null;
	}

	get last() {
		return this.turns.at(-1) ?? null;
	}

	// --- doing

	// again: a message of the outbox, with the key it was sent with.
	send(text, again = null) {
		const key = again?.key ?? outbox.newKey();
		const turn = new Turn({ text, key, at: new Date(again?.at ?? Date.now()).toISOString() });

		// A question that is passed over is denied by the server.
		this.turns.push(turn);
		outbox.keep({ key, text, conversation: this.id, at: again?.at ?? Date.now() });
		this.changed();
		this.#sendWhenPossible(turn);
		return turn;
	}

	// Messages reach the server in the order in which they were written.
	async #sendWhenPossible(turn) {
		while (this.turns.some((x) => x !== turn && x.n === null && x.state === "sending" && this.turns.indexOf(x) < this.turns.indexOf(turn)))
			await new Promise((resolve) => setTimeout(resolve, 100));
		const body = { message: turn.text, time_zone: Intl.DateTimeFormat().resolvedOptions().timeZone };
		if (this.id)
			body.conversation_id = this.id;
		await this.#follow(turn, { path: "/chat", body, key: turn.key });
		// A message that was refused keeps its place on the page, from where it can be sent again.
		if (turn.n === null && turn.state === "failed")
			outbox.drop(turn.key);
	}

	// The server has the message.  Returns the turn that it is part of: its own, or the one that had asked.
	stored(turn, id, n) {
		const isNew = this.id === null;
		const asked = this.turns.find((x) => x !== turn && x.n === n);

		this.id = id;
		if (turn.key)
			outbox.drop(turn.key);
		turn.key = null;
		turn.n = n;
		if (asked) {
			this.turns = this.turns.filter((x) => x !== turn);
			asked.joined(turn);
			this.changed();
			turn = asked;
		}
		// Any other message was a no to what was asked before.
		for (const x of this.turns)
			if (x !== turn && x.n !== null && x.n < n && x.state === "approval_required" && !x.runner)
				this.#follow(x);
		if (isNew)
			this.title = [...turn.text].slice(0, 80).join("");
		this.onStored(this, turn, isNew);
		return turn;
	}

	async stop(turn) {
		turn.stopping = true;
		turn.changed();
		// Not stored yet: what is not known at the server cannot be stopped there.
		for (let n = 0; turn.n === null && turn.isLive && n < 100; n++)
			await new Promise((resolve) => setTimeout(resolve, 100));
		if (!turn.isLive)
			return;
		try {
			await http.json("POST", `/conversations/${this.id}/turns/${turn.n}/cancel`);
		} catch (error) {
			turn.stopping = false;
			turn.changed();
			if (!(error instanceof Refusal && error.code === "turn_not_running"))
				throw error;
		}
	}

	canRetry(turn) {
		return turn === this.last && !turn.isLive && turn.state !== "approval_required";
	}

	// Again from its message: one that never got there is sent, one that is stored is run anew.
	retry(turn) {
		turn.error = null;
		turn.state = "sending";
		turn.steps = [];
		turn.changed();
		if (turn.n === null) {
			turn.key = outbox.newKey();
			outbox.keep({ key: turn.key, text: turn.text, conversation: this.id, at: Date.now() });
			this.#sendWhenPossible(turn);
		} else {
			this.#follow(turn, { path: `/conversations/${this.id}/turns/${turn.n}/retry`, body: {}, key: outbox.newKey() });
		}
		this.changed();
	}

	// Takes a message that was never stored off the page; its text goes back to who wrote it.
	discard(turn) {
		this.turns = this.turns.filter((x) => x !== turn);
		if (turn.key)
			outbox.drop(turn.key);
		this.changed();
		return turn.text;
	}

	// decisions: { id: true or false }
	decide(turn, decisions) {
		turn.decided = true;
		turn.state = "running";
		turn.approvals = turn.approvals.filter((a) => !(a.id in decisions));
		for (const step of turn.steps)
			if (step.kind === "call" && decisions[step.id] === false)
				step.denied = true;
		turn.changed();
		this.changed();
		this.#follow(turn, { path: "/chat", body: { conversation_id: this.id, approvals: decisions }, key: outbox.newKey() });
	}

	async rename(title) {
		const c = await http.json("PATCH", `/conversations/${this.id}`, { body: { title } });
		this.title = c.title;
		this.changed();
		this.onChange(this);
	}

	leave() {
		for (const turn of this.turns)
			turn.runner?.leave();
	}
}

function group(messages) {
	const out = new Map();
	for (const m of messages)
		out.set(m.turn, [...(out.get(m.turn) ?? []), m]);
	return out;
}
