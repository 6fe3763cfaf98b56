// Copying, with a word of thanks where the label was.

import { t } from "../words.js";
import { say } from "./announce.js";

export async function copyText(text, label) {
	let done = true;

	try {
		await navigator.clipboard.writeText(text);
	} catch {
		done = copyBySelection(text);
	}
	const words = t(done ? "copied" : "copy_failed");
	say(words);
	if (!label || label.dataset.busy)
		return;
	const before = label.textContent;
	label.dataset.busy = "1";
	label.textContent = words;
	setTimeout(() => {
		label.textContent = before;
		delete label.dataset.busy;
	}, 1600);
}

// Where the clipboard API is missing: a page that came over http from another machine.
function copyBySelection(text) {
	const area = document.createElement("textarea");
	const focused = document.activeElement;

	area.value = text;
	area.setAttribute("aria-hidden", "true");
	area.className = "off-screen";
	document.body.append(area);
	area.select();
	const done = document.execCommand("copy");
	area.remove();
	focused?.focus();
	return done;
}
