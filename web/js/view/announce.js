// What a screen reader is told: one polite voice, and pieces in the order they came.

import { h } from "../dom.js";

let region = null;

export function announcer() {
	region = h("div", { class: "off-screen", role: "log", "aria-live": "polite", "aria-relevant": "additions" });
	return region;
}

export function say(text) {
	if (!region || text.trim() === "")
		return;
	region.append(h("p", null, text));
	// What was said is said; the region is no second copy of the conversation.
	while (region.childElementCount > 20)
		region.firstElementChild.remove();
}
