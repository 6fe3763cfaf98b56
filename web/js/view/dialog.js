// Questions over the page.  <dialog> keeps the focus inside, gives it back, and closes on Escape.

import { h } from "../dom.js";
import { t } from "../words.js";

let serial = 0;

// Opens one; resolves with what close(value) was given, null when it was dismissed.
// fixed: it cannot be dismissed.
export function dialog({ title, body, buttons, fixed = false, onsubmit = null }) {
	return new Promise((resolve) => {
		const id = `dialog-${++serial}`;
		let result = null;
		const close = (value) => {
			result = value;
			element.close();
		};
		const form = h("form", { method: "dialog", onsubmit: (e) => {
			e.preventDefault();
			onsubmit?.(close);
		} }, h("h2", { id }, title), body(close), h("div", { class: "buttons" }, buttons?.(close) ?? []));
		const element = h("dialog", { "aria-labelledby": id, oncancel: (e) => fixed && e.preventDefault(), onclose: () => {
			element.remove();
			resolve(result);
		}, onclick: (e) => !fixed && isBeside(element, e) && close(null) }, form);
		// Chromium closes even a fixed one at the second Escape.
		if (fixed)
			element.addEventListener("keydown", (e) => e.key === "Escape" && e.preventDefault());
		document.body.append(element);
		element.showModal();
	});
}

// A click on the veil is one on the dialog itself, as far as events go.
function isBeside(element, { target, clientX, clientY }) {
	const box = element.getBoundingClientRect();
	return target === element && (clientX < box.left || clientX > box.right || clientY < box.top || clientY > box.bottom);
}

export function confirm({ title, text, yes }) {
	return dialog({
		title,
		body: () => h("p", { dir: "auto" }, text),
		buttons: (close) => [
			h("button", { type: "button", onclick: () => close(null), autofocus: true }, t("cancel")),
			h("button", { type: "button", class: "danger", onclick: () => close(true) }, yes),
		],
	});
}

export function prompt({ title, label, value, longest }) {
	const input = h("input", { type: "text", value, maxlength: String(longest), dir: "auto", "aria-label": label, required: true, autofocus: true });
	const answer = dialog({
		title,
		body: () => input,
		buttons: (close) => [
			h("button", { type: "button", onclick: () => close(null) }, t("cancel")),
			h("button", { type: "submit", class: "primary" }, t("save")),
		],
		onsubmit: (close) => input.value.trim() && close(input.value.trim()),
	});
	input.select();
	return answer;
}
