// An error in words: what happened, what to do, and the request's id for who can help.

import { config } from "../config.js";
import { h, icon } from "../dom.js";
import { safeAddress } from "../markdown/inline.js";
import { has, t } from "../words.js";
import { copyText } from "./copy.js";

// By its code; a code that this page does not know has the server's own sentence.
export function sentence(error) {
	const key = `error.${error?.code}`;
	return has(key) ? t(key) : error?.message || t("error.internal_error");
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
