// A tool call as a card: what was asked of which tool, what came of it, how long it took.

import { h, icon } from "../dom.js";
import { t } from "../words.js";
import { duration, glimpse, indented, whole } from "./format.js";

export class ToolView {
	#drawn = "";

	constructor(step) {
		this.step = step;
		this.state = h("span", { class: "tool-state" });
		this.body = h("div", { class: "tool-body" });
		this.element = h("details", { class: "tool", ontoggle: () => this.#open() },
			h("summary", null, h("span", { class: "tool-icon" }, icon("tool")),
				h("span", { class: "tool-name", dir: "ltr" }, step.name),
				h("span", { class: "tool-glimpse", dir: "auto" }, glimpse(step.parameters)),
				this.state, icon("chevron")),
			this.body);
	}

	// turn: knows whether an unfinished call still runs, waits, or never will.
	update(turn) {
		const { step } = this;
		const state = step.finished ? (step.denied ? "denied" : step.isError ? "failed" : "done")
		    : turn.approvals.some((a) => a.id === step.id) ? "waiting" : turn.isLive ? "running" : "stopped";
		const drawn = `${state} ${step.duration}`;
		if (drawn === this.#drawn)
			return;
		this.#drawn = drawn;
		this.element.dataset.state = state;
		const time = step.finished && step.duration > 0 ? h("span", { class: "tool-time" }, duration(step.duration)) : null;
		this.state.replaceChildren(...[time, h("span", { class: "tool-word" }, t(`tool_${state}`))].filter(Boolean));
		this.#open();
	}

	// Most cards are never opened: what is inside is made when one is.
	#open() {
		if (!this.element.open)
			return;
		const { step } = this;
		const part = (title, value) => h("section", null, h("h3", null, title), h("pre", { dir: "auto", tabindex: "0", role: "region", "aria-label": title }, value));
		const empty = Object.keys(step.parameters ?? {}).length === 0;
		this.body.replaceChildren(part(t("tool_parameters"), empty ? t("tool_nothing") : indented(step.parameters)),
			...(step.finished ? [part(t(step.isError ? "tool_error" : "tool_result"), whole(step.result))] : []));
	}
}
