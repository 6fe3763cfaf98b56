// The box for the next message.  What is in it is kept for each conversation until it is sent.

import { h, icon, iconButton } from "../dom.js";
import { readDraft, writeDraft } from "../model/outbox.js";
import { t } from "../words.js";

const LONGEST = 2000;

export class Composer {
	#id = null;
	#saving = null;

	// actions: { send(text), stop() }
	constructor(actions) {
		this.actions = actions;
		this.box = h("textarea", { id: "message", rows: "1", dir: "auto", "aria-label": t("message"), placeholder: t("placeholder"),
			"aria-describedby": "message-hint", autocomplete: "off", enterkeyhint: touch() ? "enter" : "send",
			oninput: () => this.#typed(), onkeydown: (e) => this.#key(e) });
		this.sendButton = iconButton("send", t("send"), null, { type: "submit", class: "icon-button send" });
		this.stopButton = iconButton("stop", t("stop"), () => this.#stop(), { class: "icon-button stop", hidden: true });
		this.count = h("span", { class: "count", role: "status" });
		this.hint = h("p", { id: "message-hint", class: "hint" }, t("hint"));
		this.element = h("form", { class: "composer", onsubmit: (e) => { e.preventDefault(); this.#send(); } },
			h("div", { class: "composer-box" }, this.box, this.stopButton, this.sendButton),
			h("div", { class: "composer-foot" }, this.hint, this.count));
	}

	// Another conversation: its draft comes, the other's has been kept.
	show(id) {
		this.#keep();
		this.#id = id;
		this.box.value = readDraft(id);
		this.#fit();
	}

	// The new conversation has got its id; what is typed meanwhile goes with it.
	moved(id) {
		writeDraft(this.#id, "");
		this.#id = id;
		writeDraft(id, this.box.value);
	}

	fill(text) {
		this.box.value = this.box.value.trim() === "" ? text : `${text}\n${this.box.value}`;
		this.#typed();
		this.focus();
	}

	focus() {
		this.box.focus({ preventScroll: true });
	}

	// turn: the one that runs, if one does
	update(turn) {
		const had = document.activeElement === this.stopButton;
		this.stopButton.hidden = !turn;
		this.stopButton.disabled = Boolean(turn?.stopping);
		this.box.placeholder = t(turn ? "placeholder_busy" : "placeholder");
		if (had && !turn)
			this.focus();
	}

	#stop() {
		this.actions.stop();
		// The button is about to go; on a screen of glass this would only open the keyboard.
		if (!touch())
			this.focus();
	}

	#key(event) {
		// Enter also ends the composition of a letter: that one is not ours.
		if (event.key !== "Enter" || event.isComposing || event.keyCode === 229)
			return;
		if (event.shiftKey || event.altKey || (touch() && !event.ctrlKey && !event.metaKey))
			return;
		event.preventDefault();
		this.#send();
	}

	#typed() {
		this.#fit();
		clearTimeout(this.#saving);
		this.#saving = setTimeout(() => this.#keep(), 250);
	}

	#keep() {
		clearTimeout(this.#saving);
		if (this.#saving !== null)
			writeDraft(this.#id, this.box.value);
		this.#saving = null;
	}

	flush() {
		this.#keep();
	}

	get #over() {
		return [...this.box.value.trim()].length - LONGEST;
	}

	#fit() {
		const over = this.#over;
		this.sendButton.disabled = over > 0 || this.box.value.trim() === "";
		this.count.textContent = over > 0 ? t("too_long", { count: over }) : over > -200 ? String(-over) : "";
		this.box.toggleAttribute("aria-invalid", over > 0);
		this.box.style.height = "auto";
		this.box.style.height = `${this.box.scrollHeight}px`;
	}

	#send() {
		const text = this.box.value.trim();
		if (text === "" || this.#over > 0)
			return;
		this.box.value = "";
		clearTimeout(this.#saving);
		this.#saving = null;
		this.#fit();
		// First it is in the outbox, then no longer a draft.
		const id = this.#id;
		this.actions.send(text);
		writeDraft(id, "");
	}
}

// A thumb has no Shift key: there Enter begins a new line.
const touch = () => matchMedia("(pointer: coarse)").matches && !matchMedia("(any-pointer: fine)").matches;
