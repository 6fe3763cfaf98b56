// Appearance, language, keys, signing out.

import { h } from "../dom.js";
import * as auth from "../net/auth.js";
import * as storage from "../storage.js";
import { language, LANGUAGES, t } from "../words.js";
import { dialog } from "./dialog.js";

export function settings() {
	return dialog({
		title: t("settings"),
		body: () => [themes(), languages(), keys()],
		buttons: (close) => [
			auth.canForget() ? h("button", { type: "button", onclick: () => auth.forget() }, t("sign_out")) : null,
			h("button", { type: "button", class: "primary", autofocus: true, onclick: () => close(null) }, t("close")),
		].filter(Boolean),
	});
}

// theme.js reads this one by itself, before any module is there: a bare word.
function theme() {
	try {
		return localStorage.getItem("parley.theme") ?? "system";
	} catch {
		return "system";
	}
}

function themes() {
	const choose = (name) => {
		try {
			localStorage.setItem("parley.theme", name);
		} catch {
			// It holds for as long as the page is open.
		}
		document.dispatchEvent(new CustomEvent("parley-theme", { detail: name }));
	};
	return h("fieldset", { class: "choices" }, h("legend", null, t("theme")),
		["system", "light", "dark"].map((name) => h("label", null,
			h("input", { type: "radio", name: "theme", value: name, checked: theme() === name, onchange: () => choose(name) }),
			h("span", null, t(`theme_${name}`)))));
}

function languages() {
	return h("p", { class: "field" }, h("label", { for: "language" }, t("language")),
		h("select", { id: "language", onchange: (e) => {
			storage.set("language", e.target.value);
			// What runs goes on, what is typed is kept.
			location.reload();
		} }, Object.entries(LANGUAGES).map(([code, name]) => h("option", { value: code, lang: code, selected: code === language }, name))));
}

function keys() {
	const rows = [["Ctrl ⇧ O", "key_new"], ["Ctrl K", "key_search"], ["/", "key_focus"], ["Esc", "key_stop"]];
	return h("section", { class: "keys" }, h("h3", null, t("keys")),
		h("dl", null, rows.map(([key, text]) => h("div", null, h("dt", null, t(text)), h("dd", null, h("kbd", null, key))))));
}
