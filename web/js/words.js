// The texts of the page in the reader's language.  t(key, { name: value }) fills "{name}";
// a text that is an object has one form for each plural category, chosen by "count".
//
// A new language: copy text/en.js to text/xx.js, translate, and add a line here.

import english from "./text/en.js";
import * as storage from "./storage.js";

export const LANGUAGES = { en: "English", de: "Deutsch", ur: "اردو" };
const RIGHT_TO_LEFT = new Set(["ur"]);

let words = english;
export let language = "en";

export async function chooseLanguage() {
	const wanted = [storage.get("language"), ...navigator.languages].filter(Boolean).map((l) => l.split("-")[0]);
	language = wanted.find((l) => l in LANGUAGES) ?? "en";
	if (language !== "en")
		words = { ...english, ...(await import(`./text/${language}.js`)).default };
	document.documentElement.lang = language;
	document.documentElement.dir = RIGHT_TO_LEFT.has(language) ? "rtl" : "ltr";
}

export function t(key, values = {}) {
	let text = words[key] ?? key;
	if (typeof text === "object")
		text = text[new Intl.PluralRules(language).select(values.count)] ?? text.other;
	return text.replace(/\{(\w+)\}/g, (whole, name) => (name in values ? String(values[name]) : whole));
}

export const has = (key) => key in words;
export const list = (key) => words[key] ?? [];
