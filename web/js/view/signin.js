// Asking for a token, when the page has none that works.

import { config } from "../config.js";
import { h, icon } from "../dom.js";
import * as auth from "../net/auth.js";
import { t } from "../words.js";
import { dialog } from "./dialog.js";

export async function signIn(reason) {
	const text = t(reason === "expired" ? "sign_in_expired" : "sign_in_missing");
	const token = config.token_url ? await onSite(text) : await paste(text);
	auth.give(token ?? "");
}

// The site has a cookie for who signs in there.
function onSite(text) {
	return dialog({
		title: t("sign_in"), fixed: true,
		body: () => h("p", null, text),
		buttons: (close) => [
			config.sign_in_url ? h("a", { class: "button", href: config.sign_in_url, target: "_blank", rel: "noopener" }, t("sign_in_link")) : null,
			h("button", { type: "button", class: "primary", onclick: () => close("") }, t("sign_in_back")),
		].filter(Boolean),
	});
}

function paste(text) {
	const problem = h("p", { class: "problem", id: "token-problem", role: "alert" });
	const box = h("textarea", { id: "token", rows: "4", dir: "ltr", autocomplete: "off", spellcheck: "false", required: true,
		"aria-describedby": "token-hint token-problem", autofocus: true });
	return dialog({
		title: t("sign_in"), fixed: true,
		body: () => [h("p", null, text), h("label", { for: "token" }, icon("key"), t("token")), box,
			h("p", { class: "fine", id: "token-hint" }, t("token_hint")), problem],
		buttons: () => h("button", { type: "submit", class: "primary" }, t("sign_in")),
		onsubmit: (close) => {
			if (auth.looksLikeToken(box.value))
				close(box.value);
			else
				problem.textContent = t("token_bad");
		},
	});
}
