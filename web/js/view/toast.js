// A word in passing, at the edge of the page.

import { h } from "../dom.js";

let region = null;

export function toaster() {
	region = h("div", { class: "toasts", role: "status", "aria-live": "polite" });
	return region;
}

export function toast(text) {
	const note = h("p", { class: "toast", dir: "auto" }, text);
	region.append(note);
	setTimeout(() => note.remove(), 5000);
}
