// The question before a tool runs that needs a person's yes.  It shows the call itself,
// letter by letter; the model's words about it are not what is approved.

import { h, icon, replace } from "../dom.js";
import { t } from "../words.js";
import { full, indented, when } from "./format.js";

export class ApprovalView {
	#drawn = "";
	#choices = {};

	constructor(conversation, turn) {
		this.conversation = conversation;
		this.turn = turn;
		this.element = h("section", { class: "approval", hidden: true, "aria-label": t("approval_title") });
	}

	update() {
		const { turn } = this;
		const asks = turn.state === "approval_required" ? turn.approvals : [];
		const drawn = JSON.stringify([asks, this.#choices]);
		if (drawn === this.#drawn)
			return;
		this.#drawn = drawn;
		this.element.hidden = asks.length === 0;
		if (asks.length === 0) {
			this.#choices = {};
			return;
		}
		replace(this.element, h("h3", { class: "approval-title" }, icon("shield"), t("approval_title")),
			asks.map((ask) => this.#ask(ask)),
			asks.length > 1 ? h("div", { class: "buttons" },
				h("button", { type: "button", class: "primary", onclick: () => this.#all(asks, true) }, t("approve_all", { count: asks.length })),
				h("button", { type: "button", onclick: () => this.#all(asks, false) }, t("deny_all"))) : null,
			asks[0].expires_at ? h("p", { class: "fine" }, icon("clock"),
				h("span", { title: full(asks[0].expires_at) }, t("approval_expires", { time: when(asks[0].expires_at) }))) : null);
	}

	#ask(ask) {
		const choice = this.#choices[ask.id];
		const button = (yes, word, look) => h("button", { type: "button", class: choice === undefined ? look : choice === yes ? "primary" : "",
			"aria-pressed": choice === undefined ? null : String(choice === yes),
			onclick: () => this.#choose(ask.id, yes) }, t(word));
		return h("div", { class: "ask" },
			ask.question ? h("p", { class: "ask-question", dir: "auto" }, ask.question) : null,
			h("p", { class: "fine" }, t("approval_runs")),
			h("pre", { class: "ask-call", dir: "ltr", tabindex: "0", role: "region", "aria-label": t("approval_runs") },
				h("strong", null, ask.tool_name), ` ${indented(ask.parameters ?? {})}`),
			h("div", { class: "buttons" }, button(true, "approve", "primary"), button(false, "deny", "")));
	}

	// All at once when the last one is decided: until then each can be changed.
	#choose(id, yes) {
		this.#choices[id] = yes;
		if (this.turn.approvals.every((a) => a.id in this.#choices)) {
			this.conversation.decide(this.turn, this.#choices);
			this.#choices = {};
		} else {
			this.update();
		}
	}

	#all(asks, yes) {
		this.#choices = Object.fromEntries(asks.map((a) => [a.id, yes]));
		this.conversation.decide(this.turn, this.#choices);
		this.#choices = {};
	}
}
