// Times, durations and values as people read them.

import { language, t } from "../words.js";

const formats = new Map();

function format(name, options) {
	const key = `${language} ${name}`;
	if (!formats.has(key))
		formats.set(key, new Intl.DateTimeFormat(language, options));
	return formats.get(key);
}

export const clock = (iso) => format("clock", { hour: "numeric", minute: "2-digit" }).format(new Date(iso));
export const full = (iso) => format("full", { dateStyle: "full", timeStyle: "medium" }).format(new Date(iso));

// Midnight, in days before today's.
export function daysAgo(iso) {
	const midnight = (d) => new Date(d.getFullYear(), d.getMonth(), d.getDate());
	return Math.round((midnight(new Date()) - midnight(new Date(iso))) / 86400000);
}

export function day(iso) {
	const ago = daysAgo(iso);
	if (ago <= 0)
		return t("today");
	if (ago === 1)
		return t("yesterday");
	const year = new Date(iso).getFullYear() === new Date().getFullYear() ? undefined : "numeric";
	return format(`day${year ?? ""}`, { weekday: "long", day: "numeric", month: "long", year }).format(new Date(iso));
}

// A time, with its date unless that is today.
export const when = (iso) => (daysAgo(iso) === 0 ? clock(iso) : format("when", { weekday: "short", hour: "numeric", minute: "2-digit" }).format(new Date(iso)));

export function duration(ms) {
	return ms < 1000 ? t("ms", { n: Math.round(ms) }) : t("seconds", { n: (ms / 1000).toLocaleString(language, { maximumFractionDigits: 1 }) });
}

// Letters that cannot be seen, or that turn the order of others round, are spelled out: what
// somebody is asked to approve must look like what it is.
const UNSEEN = /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/g;
export const visible = (text) => text.replace(UNSEEN, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`);

const indented = (value) => visible(JSON.stringify(value, null, 2) ?? "null");

// A value on one line, cut short.
export function glimpse(value) {
	const text = value && typeof value === "object" && !Array.isArray(value)
	    ? Object.entries(value).map(([k, v]) => `${k}: ${typeof v === "string" ? v : JSON.stringify(v)}`).join(", ")
	    : JSON.stringify(value) ?? "";
	return visible(text.length > 90 ? `${text.slice(0, 90)}…` : text).replaceAll("\n", " ");
}

// A tool may return more than anybody reads.
const MOST = 20000;
export function whole(value) {
	const text = typeof value === "string" ? visible(value) : indented(value);
	return text.length > MOST ? `${text.slice(0, MOST)}\n…` : text;
}
export { indented };
