// An error in words: what happened, what to do, and the request's id for who can help.

import { config } from "../config.js";
import { h, icon } from "../dom.js";
import { safeAddress } from "../markdown/inline.js";
import { has, t } from "../words.js";
import { copyText } from "./copy.js";
import { when } from "./format.js";

const SOON = 120000;

// By its code; a code that this page does not know has the server's own sentence.
export function sentence(error) {
	const key = `error.${error?.code}`;
	if (!has(key))
		return error?.message || t("error.internal_error");
	return has(`${key}.later`) ? `${t(key)} ${later(error)}` : t(key);
}

// When it is worth while to try again: said as a time, or in seconds while it is a matter of these; by what the code means where nobody has said.
function later(error) {
	const ms = (error.retryAt ?? 0) - Date.now();
	if (ms <= 0)
		return t(`error.${error.code}.later`);
	if (ms <= SOON)
		return t("retry_in", { count: Math.ceil(ms / 1000) });
	// To the minute; what is said in whole seconds may be a moment past one.
	return t("retry_at", { time: when(new Date(Math.ceil((error.retryAt - 2000) / 60000) * 60000).toISOString()) });
}

// actions: buttons that help.
export function errorCard(error, ...actions) {
	const card = h("div", { class: "notice notice-error", role: "alert" }, icon("alert"),
		h("div", { class: "notice-body" }, h("p", null, sentence(error)), details(error),
			actions.length > 0 ? h("div", { class: "buttons" }, actions) : null));
	return card;
}

function details(error) {
	const id = error?.requestId;
	const help = config.support && safeAddress(config.support);
	if (!id && !help)
		return null;
	const label = id ? h("span", null, t("request_id", { id: id.slice(0, 8) })) : null;
	return h("p", { class: "fine" },
		id ? h("button", { type: "button", class: "quiet", title: `${t("copy_id")}: ${id}`, onclick: () => copyText(id, label) }, label) : null,
		help ? h("a", { href: help, target: "_blank", rel: "noopener noreferrer" }, t("support")) : null);
}
