// The messages of one conversation, and the scroll: at the end it follows what is
// written, anywhere else it stays where the reader put it.

import { config } from "../config.js";
import { h, icon, replace } from "../dom.js";
import { list, t } from "../words.js";
import { errorCard } from "./errors.js";
import { day } from "./format.js";
import { TurnView } from "./turn.js";

const NEAR = 60;	// so many pixels from the end are the end

export class Thread {
	#views = new Map();	// Turn => TurnView
	#unwatch;
	#stuck = true;
	#placed = false;
	#opened = 0;	// when a card was opened or closed

	// actions: see TurnView, and suggest(text)
	constructor(conversation, actions) {
		this.conversation = conversation;
		this.actions = actions;
		this.older = h("button", { type: "button", class: "older", hidden: true, onclick: () => conversation.readOlder() }, t("older"));
		this.list = h("div", { class: "turns" });
		this.list.addEventListener("toggle", () => { this.#opened = performance.now(); }, true);
		this.note = h("div", { class: "thread-note" });
		this.content = h("div", { class: "thread-content" }, this.older, this.note, this.list);
		// It takes the keyboard's focus, to be scrolled by arrows.
		this.scroller = h("div", { class: "thread", tabindex: "0", role: "region", "aria-label": t("thread"), onscroll: () => this.#scrolled() }, this.content);
		this.jump = h("button", { type: "button", class: "jump", hidden: true, onclick: () => this.toEnd(true) }, icon("down"), t("latest"));
		this.element = h("div", { class: "thread-frame" }, this.scroller, this.jump);
		this.#unwatch = conversation.watch(() => this.update());
		this.sizes = new ResizeObserver(() => this.#grown());
		this.sizes.observe(this.content);
		this.sizes.observe(this.scroller);
		this.seen = new IntersectionObserver(([entry]) => {
			if (entry.isIntersecting && this.#placed && !this.older.hidden)
				conversation.readOlder();
		}, { root: this.scroller, rootMargin: "600px 0px 0px 0px" });
		this.seen.observe(this.older);
		conversation.isShown = true;
		this.#stuck = conversation.place?.stuck ?? true;
		this.update();
	}

	gone() {
		this.conversation.place = { stuck: this.#stuck, top: this.scroller.scrollTop };
		this.conversation.isShown = false;
		this.#unwatch();
		this.sizes.disconnect();
		this.seen.disconnect();
		for (const view of this.#views.values())
			view.gone();
	}

	update() {
		const { conversation, scroller } = this;
		const height = scroller.scrollHeight, top = scroller.scrollTop;
		const firstBefore = this.list.querySelector(".turn");

		this.#drawNote();
		this.older.hidden = !conversation.older;
		this.older.disabled = conversation.loading;
		this.#drawTurns();
		// What comes above pushes what is read down by as much; not all browsers hold it in place.
		if (firstBefore && firstBefore.isConnected && this.list.querySelector(".turn") !== firstBefore && !this.#stuck)
			scroller.scrollTop = top + scroller.scrollHeight - height;
		this.#grown();
		if (!this.#placed && conversation.turns.length > 0)
			requestAnimationFrame(() => this.#place());
	}

	#place() {
		const place = this.conversation.place;
		if (place && !place.stuck)
			this.scroller.scrollTop = place.top;
		else
			this.toEnd(false);
		this.#placed = true;
	}

	#drawTurns() {
		const turns = this.conversation.turns;
		const wanted = [];
		let date = null;

		for (const [turn, view] of this.#views) {
			if (!turns.includes(turn)) {
				view.gone();
				this.#views.delete(turn);
			}
		}
		for (const turn of turns) {
			let view = this.#views.get(turn);
			if (!view) {
				view = new TurnView(this.conversation, turn, this.actions);
				this.#views.set(turn, view);
			} else if (turn === turns.at(-1) || turn === turns.at(-2)) {
				// Which turn is the last decides what may be done with it.
				view.update();
			}
			const its = turn.at ? day(turn.at) : date;
			if (its !== date)
				wanted.push(view.date?.textContent === its ? view.date : (view.date = h("h3", { class: "day" }, its)));
			date = its;
			wanted.push(view.element);
		}
		arrange(this.list, wanted);
	}

	#drawNote() {
		const { conversation } = this;
		const state = conversation.error && conversation.turns.length === 0 ? "error" : conversation.turns.length > 0 ? ""
		    : conversation.loaded ? "empty" : "loading";
		if (this.note.dataset.state === state)
			return;
		this.note.dataset.state = state;
		if (state === "error")
			replace(this.note, errorCard(conversation.error, h("button", { type: "button", onclick: () => conversation.read() }, icon("retry"), t("try_again"))));
		else if (state === "loading")
			replace(this.note, h("div", { class: "skeleton", role: "status", "aria-label": t("loading") }, h("i"), h("i"), h("i"), h("i"), h("i")));
		else if (state === "empty")
			replace(this.note, this.#welcome());
		else
			replace(this.note);
	}

	#welcome() {
		const hour = new Date().getHours();
		const greeting = t(hour < 5 || hour >= 18 ? "greeting_evening" : hour < 12 ? "greeting_morning" : "greeting_day");
		const offers = Array.isArray(config.suggestions) ? config.suggestions : list("suggestions");

		return h("div", { class: "welcome" }, h("span", { class: "mark mark-large", "aria-hidden": "true" }),
			h("h2", null, greeting), h("p", null, t("greeting_text")),
			offers.length > 0 ? h("ul", { class: "suggestions", "aria-label": t("suggestions_label") },
				offers.map((text) => h("li", null, h("button", { type: "button", dir: "auto", onclick: () => this.actions.suggest(text) }, text)))) : null);
	}

	// --- scroll

	get #distance() {
		return this.scroller.scrollHeight - this.scroller.scrollTop - this.scroller.clientHeight;
	}

	#scrolled() {
		this.#stuck = this.#distance < NEAR;
		this.jump.hidden = this.#distance < NEAR * 3;
	}

	#grown() {
		// A card that somebody opens is no reason to move.
		if (this.#stuck && (this.conversation.live || performance.now() - this.#opened > 250))
			this.scroller.scrollTop = this.scroller.scrollHeight;
		this.jump.hidden = this.#distance < NEAR * 3;
	}

	toEnd(smooth) {
		this.#stuck = true;
		const calm = !smooth || matchMedia("(prefers-reduced-motion: reduce)").matches || this.#distance > 4000;
		this.scroller.scrollTo({ top: this.scroller.scrollHeight, behavior: calm ? "instant" : "smooth" });
	}
}

// The same nodes in the same order are not touched: focus and selection stay.
function arrange(parent, wanted) {
	const keep = new Set(wanted);
	for (const node of [...parent.children])
		if (!keep.has(node))
			node.remove();
	let at = parent.firstElementChild;
	for (const node of wanted) {
		if (node === at)
			at = at.nextElementSibling;
		else
			parent.insertBefore(node, at);
	}
}
