// One turn: what a person wrote, and what came of it.
//
// state: sending, then the contract's queued, running, approval_required, done, failed,
// cancelled; failed also when the message never got there (n is null then).
//
// steps, in order: { kind: "text", text, at, interrupted }, { kind: "said", text, at }
// (a person's yes or no to a question, in words) and
// { kind: "call", id, name, parameters, result, isError, duration, finished }.

import { Emitter } from "./emitter.js";

const STATE = { success: "done" };

export class Turn extends Emitter {
	constructor({ n = null, text = "", at = null, key = null }) {
		super();
		this.n = n;
		this.key = key;		// Idempotency-Key while the message is on its way
		this.text = text;
		this.at = at;
		this.state = "sending";
		this.steps = [];
		this.approvals = [];
		this.rows = [];
		this.error = null;	// { code, message, requestId, retryAt }
		this.position = 0;
		this.link = "ok";	// or "reconnecting", "offline", "waiting"
		this.stopping = false;
		this.stale = false;	// the steps are of an earlier connection: the next one begins anew
		this.runner = null;
	}

	get isLive() {
		return ["sending", "queued", "running"].includes(this.state);
	}

	// The text of the answer, as it would be copied.
	get answer() {
		return this.steps.filter((s) => s.kind === "text" && s.text !== "").map((s) => s.text).join("\n\n");
	}

	// --- what the stream says

	apply({ event, data }) {
		const act = { turn: "onTurn", queued: "onQueued", delta: "onDelta", reset: "onReset", tool_call: "onCall",
			tool_result: "onResult", approval: "onApproval", done: "onDone", error: "onError" }[event];
		if (!act)
			return;
		this.link = "ok";
		if (this.stale && event !== "turn" && event !== "queued") {
			this.stale = false;
			if (!this.#continues(event, data))
				this.steps = [];
		}
		this[act](data);
		this.changed();
	}

	// After decisions the stream may go on where the question was, or begin at the
	// beginning: what it says first tells which.
	#continues(event, data) {
		if (!this.decided || event === "done" || event === "error")
			return Boolean(this.decided);
		const first = this.steps.find((s) => s.kind === "call" || s.text !== "");
		if (!first)
			return false;
		if (event === "tool_call")
			return !(first.kind === "call" && first.id === data.id);
		if (event === "delta")
			return !(first.kind === "text" && data.text !== "" && first.text.startsWith(data.text));
		return true;
	}

	onTurn(data) {
		this.n = data.turn;
		if (!this.isLive || this.state === "sending")
			this.state = "running";
	}

	onQueued(data) {
		this.state = "queued";
		this.position = data.position;
	}

	onDelta(data) {
		this.#runs();
		const last = this.steps.at(-1);
		if (last?.kind === "text" && !last.whole)
			last.text += data.text;
		else
			this.steps.push({ kind: "text", text: data.text, at: new Date().toISOString() });
	}

	onReset() {
		this.#runs();
		if (this.steps.at(-1)?.kind === "text")
			this.steps.pop();
	}

	onCall(data) {
		this.#runs();
		const known = this.steps.find((s) => s.kind === "call" && s.id === data.id);
		if (!known)
			this.steps.push({ kind: "call", id: data.id, name: data.tool_name, parameters: data.parameters, finished: false });
	}

	onResult(data) {
		this.#runs();
		const call = this.steps.find((s) => s.kind === "call" && s.id === data.id);
		if (call)
			Object.assign(call, { result: data.result, isError: data.is_error, duration: data.duration_ms, finished: true });
	}

	onApproval(data) {
		if (!this.approvals.some((a) => a.id === data.id))
			this.approvals.push(data);
	}

	// The whole answer of POST /api/chat; its rows are what is kept.
	onDone(body) {
		this.n = body.turn ?? this.n;
		this.state = STATE[body.status] ?? body.status;
		const mine = (body.messages ?? []).filter((m) => m.turn === this.n);
		// Without a stream its steps so far are seen in the rows; a stream may have said more than those.
		if (mine.length > 0 && (!this.isLive || this.steps.every((s) => s.kind !== "text" || s.whole)))
			this.setRows(mine);
		this.approvals = this.state === "approval_required" ? body.approvals_required ?? [] : [];
		this.#ended();
	}

	onError(body) {
		this.n = body.turn ?? this.n;
		this.state = "failed";
		this.error = { code: body.error_code, message: body.message, requestId: body.request_id ?? null };
		this.approvals = [];
		for (const step of this.steps)
			if (step.kind === "text")
				step.interrupted = true;
		this.#ended();
	}

	#runs() {
		if (this.state !== "running") {
			this.state = "running";
			this.approvals = [];
		}
	}

	#ended() {
		this.link = "ok";
		if (!this.isLive) {
			this.stopping = false;
			this.decided = false;
		}
	}

	// What was thought to be another turn is part of this one: its message was the answer to what this one
	// had asked, or (sent again after a reload) had been this one's own.
	joined(other) {
		if (this.state === "approval_required") {
			this.steps.push({ kind: "said", text: other.text, at: other.at });
			this.approvals = [];
			this.decided = true;
			this.state = "running";
		}
		this.stale = true;
		this.runner?.leave();
		this.runner = other.runner;
		other.runner = null;
		this.changed();
	}

	// --- what the rows say

	setRows(rows) {
		const user = rows.find((m) => m.role === "user");
		this.rows = rows;
		this.n = rows[0].turn;
		this.state = rows.at(-1).turn_state;
		if (user) {
			this.text = user.content;
			this.at = user.created_at;
		}
		this.steps = rows.filter((m) => m !== user).flatMap((m) =>
			(m.role === "user" ? [{ kind: "said", text: m.content, at: m.created_at }] : stepsOf(m)));
		const failed = rows.findLast((m) => m.error_code);
		if (this.state === "failed" || failed)
			this.error ??= { code: failed?.error_code ?? "internal_error", message: null, requestId: null };
		else
			this.error = null;
		this.changed();
	}
}

function stepsOf(m) {
	const out = [];

	if (m.content)
		out.push({ kind: "text", text: m.content, at: m.created_at, interrupted: Boolean(m.interrupted), whole: true });
	for (const c of m.tool_calls ?? []) {
		const finished = c.result !== undefined && c.result !== null || c.duration_ms !== undefined && c.duration_ms !== null;
		out.push({ kind: "call", id: c.id, name: c.tool_name, parameters: c.parameters, result: c.result,
			isError: c.is_error, duration: c.duration_ms, at: c.executed_at, finished });
	}
	return out;
}
