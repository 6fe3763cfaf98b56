// A turn on the screen: the person's message, the steps of the answer, and what may be done with it.

import { config } from "../config.js";
import { h, icon, iconButton, replace } from "../dom.js";
import { Markdown } from "../markdown/render.js";
import { t } from "../words.js";
import { say } from "./announce.js";
import { ApprovalView } from "./approval.js";
import { copyText } from "./copy.js";
import { errorCard } from "./errors.js";
import { clock, full } from "./format.js";
import { ToolView } from "./tool.js";

// A piece of the answer's text.  Drawing has its price: no more than a third of the time.
class TextView {
	#cost = 0;
	#at = 0;
	#later = null;

	constructor(step, again) {
		this.step = step;
		this.again = again;
		this.markdown = new Markdown();
		this.element = this.markdown.element;
		this.spoken = 0;
	}

	update(turn, isLast) {
		const finished = !turn.isLive || !isLast;
		const now = performance.now();
		const due = this.#at + this.#cost * 2;

		if (!finished && now < due) {
			this.#later ??= setTimeout(() => {
				this.#later = null;
				this.again();
			}, due - now);
			return;
		}
		this.markdown.draw(this.step.text, finished);
		this.#at = performance.now();
		this.#cost = this.#at - now;
	}
}

// What the person said in the middle of it.
class SaidView {
	constructor(step) {
		this.element = h("div", { class: "message-user said" }, h("span", { class: "off-screen" }, `${t("you")}: `),
			h("div", { class: "bubble", dir: "auto" }, step.text));
	}

	update() {}
}

export class TurnView {
	#views = [];
	#heard = false;		// it was live while it was shown: its answer is read out
	#drawnFoot = "";
	#drawnHead = "";
	#unwatch;

	// actions: { edit(turn), focus(), fail(error) }
	constructor(conversation, turn, actions) {
		this.conversation = conversation;
		this.turn = turn;
		this.actions = actions;
		this.body = h("div", { class: "steps" });
		this.foot = h("div", { class: "turn-foot" });
		this.approval = new ApprovalView(conversation, turn);
		this.question = h("div", { class: "bubble", dir: "auto" });
		this.receipt = h("div", { class: "receipt" });
		this.userTime = h("time");
		this.answerTime = h("time");
		this.asked = h("article", { class: "message message-user", "aria-label": t("you") },
			h("header", { class: "by" }, h("span", { class: "who" }, t("you")), this.userTime),
			this.question, this.receipt);
		this.answered = h("article", { class: "message message-assistant", "aria-label": config.name },
			h("header", { class: "by" }, h("span", { class: "mark", "aria-hidden": "true" }), h("span", { class: "who" }, config.name), this.answerTime),
			this.body, this.approval.element, this.foot);
		this.element = h("section", { class: "turn" }, this.asked, this.answered);
		this.#unwatch = turn.watch(() => this.update());
		this.update();
	}

	gone() {
		this.#unwatch();
	}

	update() {
		const { turn } = this;

		this.element.dataset.state = turn.state;
		this.#drawQuestion();
		this.#drawSteps();
		this.approval.update();
		this.#drawFoot();
		const first = turn.steps.find((s) => s.at);
		stamp(this.answerTime, first?.at ?? null);
		this.answered.hidden = turn.steps.length === 0 && this.foot.childElementCount === 0 && this.approval.element.hidden;
		this.#readOut();
	}

	#drawQuestion() {
		const { turn } = this;
		const unsent = turn.n === null && turn.state === "failed";
		const last = this.conversation.canRetry(turn);
		const drawn = JSON.stringify([turn.text, turn.at, turn.n === null, turn.state, turn.link, turn.position, last]);
		if (drawn === this.#drawnHead)
			return;
		this.#drawnHead = drawn;
		this.question.textContent = turn.text;
		stamp(this.userTime, turn.at);
		const note = turn.n === null && turn.state === "sending" ? t(turn.link === "offline" ? "offline" : turn.link === "ok" ? "sending" : "reconnecting")
		    : turn.state === "queued" ? t("queued", { count: turn.position || 1 })
		    : unsent ? t("not_sent") : null;
		const label = h("span", { class: "off-screen" });
		replace(this.receipt,
			note ? h("span", { class: "receipt-note" }, icon(unsent ? "alert" : "clock"), note)
			    : turn.isLive ? h("span", { class: "receipt-note receipt-sent" }, icon("check"), t("sent")) : null,
			h("span", { class: "actions" }, label,
				unsent ? iconButton("edit", t("edit"), () => this.actions.edit(turn)) : null,
				iconButton("copy", t("copy_message"), () => copyText(turn.text, label))));
	}

	#drawSteps() {
		const { turn } = this;
		const steps = turn.steps.filter((s) => s.kind === "call" || s.text !== "");

		steps.forEach((step, i) => {
			const old = this.#views[i];
			let view = old;
			if (!old || !sameStep(old.step, step)) {
				view = step.kind === "call" ? new ToolView(step) : step.kind === "said" ? new SaidView(step) : new TextView(step, () => this.update());
				if (old)
					old.element.replaceWith(view.element);
				else
					this.body.append(view.element);
				this.#views[i] = view;
			}
			view.step = step;
			view.update(turn, i === steps.length - 1);
		});
		for (const view of this.#views.splice(steps.length))
			view.element.remove();
		this.body.classList.toggle("is-writing", turn.state === "running" && steps.at(-1)?.kind === "text");
	}

	#drawFoot() {
		const { turn, conversation } = this;
		const state = this.#status();
		const again = conversation.canRetry(turn);
		const drawn = JSON.stringify([state, turn.state, turn.error, again, turn.isLive, turn.steps.length > 0]);
		if (drawn === this.#drawnFoot)
			return;
		this.#drawnFoot = drawn;
		const label = h("span", { class: "off-screen" });
		replace(this.foot,
			state ? h("p", { class: `status status-${state.kind}`, role: state.kind === "lost" ? "status" : null },
				h("span", { class: "dots", "aria-hidden": "true" }, h("i"), h("i"), h("i")), state.text) : null,
			turn.error ? errorCard(turn.error, again ? h("button", { type: "button", onclick: () => this.#retry() }, icon("retry"), t("try_again")) : null) : null,
			turn.state === "cancelled" && !turn.error ? h("p", { class: "status status-stopped" }, t("stopped")) : null,
			!turn.isLive && turn.n !== null ? h("div", { class: "actions" }, label,
				turn.answer ? iconButton("copy", t("copy_message"), () => copyText(turn.answer, label)) : null,
				again && !turn.error ? iconButton("retry", t("regenerate"), () => this.#retry()) : null) : null);
	}

	#retry() {
		this.conversation.retry(this.turn);
		this.actions.focus();
	}

	#status() {
		const { turn } = this;
		if (!turn.isLive)
			return null;
		if (turn.stopping)
			return { kind: "busy", text: t("stopping") };
		if (turn.n !== null && turn.link !== "ok")
			return { kind: "lost", text: t(turn.link === "offline" ? "offline_following" : "reconnecting") };
		if (turn.state !== "running")
			return null;
		const last = turn.steps.at(-1);
		if (last?.kind === "text")
			return null;
		return { kind: "busy", text: t(last ? "working" : "thinking") };
	}

	// Block by block, as each is complete: words that are still being written are not read out.
	#readOut() {
		const { turn } = this;
		if (turn.isLive && turn.state === "running" && !this.#heard) {
			this.#heard = true;
			say(t("answer_begins", { name: config.name }));
		}
		if (!this.#heard)
			return;
		for (const view of this.#views) {
			if (!(view instanceof TextView))
				continue;
			const finished = !turn.isLive || view !== this.#views.at(-1);
			const { text, to } = view.markdown.settled(view.spoken, finished);
			view.spoken = to;
			say(text);
		}
		if (!turn.isLive) {
			this.#heard = false;
			if (turn.state === "approval_required" && turn.approvals.length > 0)
				say(t("approval_announce", { question: turn.approvals[0].question ?? turn.approvals[0].tool_name }));
			else if (turn.state === "done")
				say(t("answer_ends"));
		}
	}
}

// Rows replace what was streamed: the same words keep their place on the screen.
function sameStep(a, b) {
	return a === b || (a.kind === b.kind && (a.kind === "call" ? a.id === b.id : b.text.startsWith(a.text) || a.text === b.text));
}

function stamp(element, iso) {
	if (!iso || element.dateTime === iso)
		return;
	element.dateTime = iso;
	element.title = full(iso);
	element.textContent = clock(iso);
}
