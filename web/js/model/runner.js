// Brings a turn to its end: sends what begins it, reads the stream, and when that breaks
// goes on after the last event it heard, on whatever connection there is.
//
// A request that begins something carries an Idempotency-Key and is repeated with the same
// key until the server has answered: it happens once, however often it was sent.

import { config } from "../config.js";
import * as http from "../net/http.js";
import { Offline, Refusal } from "../net/failure.js";
import { events } from "../net/sse.js";

// The server speaks at least every 15 s.
const SILENCE = 35000;
// It begins to speak at once: a gateway that holds a stream back until its end shows nothing of it.
const FIRST_SILENCE = 8000;
// A stream that took longer and came all at once was held back, too.
const AT_ONCE = 150;
const TOOK = 2000;
const LONGEST_PAUSE = 15000;
// Without a stream: how long (in seconds) a message may take to be answered at once, before its turn is
// looked at, and how long each look waits for the end.
const SHORT_WAIT = 2;
const WAIT = 5;

// Browsers open six connections to a host and streams hold theirs: some must stay free.
const MOST_STREAMS = 4;
const running = new Set();

// Some hosts cannot stream (or were told so in config.json).  Twice in a row is no accident: then
// this page asks without streams, and waits for the end of a turn with ?wait=.
let held = 0;
const wasHeld = (yes) => { held = yes ? held + 1 : 0; };
const canStream = () => config.streams !== false && held < 2;

// Wakes all that wait for the network.
const wakers = new Set();
export const wake = () => {
	for (const f of [...wakers])
		f();
};

// After sleep, or on another network, a stream may be dead without a word: it is begun again
// where it was, which costs nothing.
const LONG_AWAY = 15000;
let hiddenAt = 0;

function refresh() {
	for (const r of running)
		r.refresh();
	wake();
}

addEventListener("online", refresh);
document.addEventListener("visibilitychange", () => {
	if (document.hidden)
		hiddenAt = Date.now();
	else if (Date.now() - hiddenAt > LONG_AWAY)
		refresh();
});

function pause(ms) {
	return new Promise((resolve) => {
		const done = () => {
			clearTimeout(timer);
			wakers.delete(done);
			resolve();
		};
		const timer = setTimeout(done, ms);
		wakers.add(done);
	});
}

export class Runner {
	#last = null;		// id of the last event
	#misses = 0;		// failures since something was heard
	#abort = null;
	#left = false;
	#plain = false;		// this turn's stream was held back: without one
	#parked = false;	// it waits behind another turn of this page
	#first;

	// first: { path, body, key } of the request that begins it; null: it runs already.
	constructor(conversation, turn, first) {
		this.conversation = conversation;
		this.turn = turn;
		this.#first = first;
		turn.runner = this;
		turn.stale = turn.steps.length > 0;
	}

	// Resolves when the turn has ended, waits for the person, or was left.
	async run() {
		running.add(this);
		this.#makeRoom();
		while (!this.#left && !this.#ended) {
			const since = performance.now();
			let whole = false;
			try {
				whole = await this.#once();
			} catch (error) {
				if (this.#left)
					break;
				if (!(error instanceof Refusal) && error.code !== "offline") {
					this.#fail({ code: "internal_error", message: String(error), requestId: null });
					throw error;
				}
				if (error instanceof Refusal && !this.#bears(error))
					break;
				this.#misses++;
				this.turn.link = navigator.onLine ? "reconnecting" : "offline";
				this.turn.changed();
				await pause(error.retryAfter ? error.retryAfter * 1000 : Math.min(LONGEST_PAUSE, 400 * 2 ** this.#misses));
				continue;
			}
			if (this.#parked && !this.#ended) {
				this.#parked = false;
				await pause(8000);
				continue;
			}
			// It was asked to wait, and has: again, unless the host does not let it wait.
			if (whole) {
				if (!this.#ended && performance.now() - since < 1000)
					await pause(1000);
				continue;
			}
			// A stream that ended without an end: the worker has left, another goes on.
			if (!this.#ended && ++this.#misses > 1)
				await pause(Math.min(LONGEST_PAUSE, 200 * 2 ** this.#misses));
		}
		running.delete(this);
		if (this.turn.runner === this)
			this.turn.runner = null;
		this.turn.changed();
		wake();
	}

	// Stops listening; the turn goes on at the server.
	leave() {
		this.#left = true;
		this.#abort?.abort();
		wake();
	}

	refresh() {
		this.#abort?.abort();
	}

	get #ended() {
		return !this.#first && !this.turn.isLive;
	}

	// One request and what it says; true: it was answered whole, not as a stream.
	async #once() {
		this.#abort = new AbortController();
		const { turn } = this;
		const follow = `/conversations/${this.conversation.id}/turns/${turn.n}`;
		const asStream = canStream() && !this.#plain && this.#misses < 4;
		const signal = this.#abort.signal;
		let answer;

		if (asStream)
			return this.#onceAsStream(follow, signal);
		if (this.#first) {
			answer = await http.send("POST", this.#first.path, {
				body: { ...this.#first.body, stream: false }, signal,
				headers: { "Idempotency-Key": this.#first.key, Prefer: `wait=${SHORT_WAIT}` }, patience: 130000,
			});
		} else {
			answer = await http.send("GET", `${follow}?wait=${WAIT}`, { signal, patience: 60000 });
		}
		return this.#read(answer);
	}

	async #onceAsStream(follow, signal) {
		const since = performance.now();
		// Who goes on after an event may hear nothing new for a while.
		const patience = this.#last ? SILENCE : FIRST_SILENCE;
		let answer;

		try {
			if (this.#first) {
				answer = await http.send("POST", this.#first.path, { body: { ...this.#first.body, stream: true }, signal, patience,
					headers: { "Idempotency-Key": this.#first.key } });
			} else {
				if (!this.#last)
					this.turn.stale = true;
				answer = await http.send("GET", `${follow}/events`, { signal, patience,
					headers: { Accept: "text/event-stream", ...(this.#last ? { "Last-Event-ID": this.#last } : {}) } });
			}
		} catch (error) {
			if (!error.late || this.#left)
				throw error;
			this.#wasHeld();
			return true;
		}
		if ((answer.headers.get("Content-Type") ?? "").startsWith("text/event-stream"))
			return this.#listen(answer, since, patience);
		return this.#read(answer);
	}

	// Nothing was heard in time: this turn without a stream.
	#wasHeld() {
		this.#plain = true;
		wasHeld(true);
	}

	async #read(answer) {
		let body;
		try {
			body = await answer.json();
		} catch {
			throw new Offline();
		}
		this.#take(body);
		return true;
	}

	async #listen(answer, since, patience) {
		let heard = 0;

		try {
			for await (const event of events(answer, SILENCE, patience)) {
				heard ||= performance.now();
				this.#hear(event);
				if (event.event === "done" || event.event === "error")
					this.#judge(heard - since, performance.now() - heard);
				// The turn before it wakes it up; meanwhile its connection is of more use to others.
				this.#parked = event.event === "queued" && this.conversation.hasEarlier(this.turn);
				if (this.#parked)
					return false;
			}
		} catch (error) {
			if (heard || !error.late || this.#left)
				throw error;
			this.#wasHeld();
			return true;
		} finally {
			this.#abort.abort();
		}
		return false;
	}

	// A quick turn comes at once on any host.
	#judge(silent, speaking) {
		if (speaking >= AT_ONCE)
			wasHeld(false);
		else if (silent > TOOK)
			wasHeld(true);
	}

	#hear(event) {
		this.#misses = 0;
		this.#last = event.id ?? this.#last;
		if (event.event === "turn")
			this.#stored(event.data);
		this.turn.apply(event);
	}

	#stored(data) {
		this.#first = null;
		// A yes or a no in words belongs to the turn that asked.
		this.turn = this.conversation.stored(this.turn, data.conversation_id, data.turn);
	}

	// A whole body instead of a stream: the end, or "still running".
	#take(body) {
		if (body.conversation_id && body.turn)
			this.#stored(body);
		this.#misses = Math.min(this.#misses, 4);
		this.turn.apply({ event: body.status === "error" ? "error" : "done", data: body });
	}

	// Is this a refusal that time heals?  Otherwise the turn has failed.
	#bears(error) {
		const heals = error.status === 503 || (error.status === 429 && error.retryAfter !== null && error.retryAfter <= 30) ||
		    (error.status >= 500 && !error.turn && this.#misses < 2);

		if (error.turn && this.#first) {
			this.#stored({ turn: error.turn, conversation_id: error.conversationId ?? this.conversation.id });
			this.#fail(error);
			return false;
		}
		if (heals && this.#misses < 6)
			return true;
		this.#first = null;
		this.#fail(error);
		return false;
	}

	#fail({ code, message, requestId, retryAt }) {
		this.turn.state = "failed";
		this.turn.link = "ok";
		this.turn.stopping = false;
		this.turn.error = { code, message, requestId, retryAt: retryAt ?? null };
		this.turn.changed();
	}

	// The ones that nobody looks at make room; they are taken up again when their conversation is opened.
	#makeRoom() {
		const idle = [...running].filter((r) => r !== this && !r.conversation.isShown && r.turn.n !== null);
		for (let n = running.size - MOST_STREAMS; n > 0 && idle.length > 0; n--)
			idle.shift().leave();
	}
}
