// The inside of a paragraph, straight into nodes: emphasis, code, links, line breaks.

import { h } from "../dom.js";

const SPECIAL = /[\\`*_~[\]!<&\n]|https?:\/\//g;
const ENTITIES = { "&amp;": "&", "&lt;": "<", "&gt;": ">", "&quot;": "\"", "&nbsp;": "\u00a0", "&#39;": "'" };
const PUNCTUATION = /[\p{P}\p{S}]/u;

// How far a closing mark looks back for its opening one, and how deep links and marks nest.
const FAR = 64;
const DEEPEST = 8;

// Only addresses that leave the page in a known way.  null: it stays text.
export function safeAddress(text) {
	try {
		const url = new URL(text);
		return ["http:", "https:", "mailto:"].includes(url.protocol) ? url.href : null;
	} catch {
		return null;
	}
}

function link(address, children) {
	return h("a", { href: address, title: address, target: "_blank", rel: "noopener noreferrer nofollow" }, children);
}

export function inline(text, depth = 0) {
	const out = [];
	let at = 0, plain = "";
	const flush = () => {
		if (plain !== "")
			out.push(plain);
		plain = "";
	};

	while (at < text.length) {
		SPECIAL.lastIndex = at;
		const m = SPECIAL.exec(text);
		if (!m) {
			plain += text.slice(at);
			break;
		}
		plain += text.slice(at, m.index);
		at = m.index;
		const found = token(text, at, depth);
		if (found === null) {
			plain += text[at++];
			continue;
		}
		if (typeof found.item === "string") {
			plain += found.item;
		} else {
			flush();
			out.push(found.item);
		}
		at = found.next;
	}
	flush();
	return emphasise(out);
}

function token(text, at, depth) {
	switch (text[at]) {
	case "\\":
		return /[!-/:-@[-`{-~]/.test(text[at + 1] ?? "") ? { item: text[at + 1], next: at + 2 }
		    : text[at + 1] === "\n" ? { item: h("br"), next: at + 2 } : null;
	case "\n":
		// People and models mean a new line when they write one.
		return { item: h("br"), next: at + 1 };
	case "`":
		return code(text, at);
	case "*":
	case "_":
	case "~":
		return mark(text, at);
	case "!":
	case "[":
		return depth < DEEPEST ? bracket(text, at, depth) : null;
	case "<":
		return angle(text, at);
	case "&": {
		const m = /^&(?:amp|lt|gt|quot|nbsp|#39);/.exec(text.slice(at, at + 8));
		return m && { item: ENTITIES[m[0]], next: at + m[0].length };
	}
	default:
		return bare(text, at);
	}
}

function code(text, at) {
	const ticks = /^`+/.exec(text.slice(at))[0];
	for (let end = at + ticks.length; (end = text.indexOf(ticks, end)) >= 0;) {
		const run = /^`+/.exec(text.slice(end))[0].length;
		if (run === ticks.length) {
			let inside = text.slice(at + run, end).replaceAll("\n", " ");
			if (inside.startsWith(" ") && inside.endsWith(" ") && /[^ ]/.test(inside))
				inside = inside.slice(1, -1);
			return { item: h("code", { dir: "ltr" }, inside), next: end + run };
		}
		end += run;
	}
	return { item: ticks, next: at + ticks.length };
}

// A run of * _ or ~ that may open or close something; emphasise() decides.
function mark(text, at) {
	const char = text[at];
	let end = at;
	while (text[end] === char)
		end++;
	const run = text.slice(at, end);
	const before = text[at - 1] ?? " ", after = text[end] ?? " ";
	const left = !/\s/.test(after) && (!PUNCTUATION.test(after) || /\s/.test(before) || PUNCTUATION.test(before));
	const right = !/\s/.test(before) && (!PUNCTUATION.test(before) || /\s/.test(after) || PUNCTUATION.test(after));
	const word = char === "_";
	const opens = left && (!word || !right || PUNCTUATION.test(before));
	const closes = right && (!word || !left || PUNCTUATION.test(after));

	if ((!opens && !closes) || (char === "~" && run.length !== 2))
		return { item: run, next: end };
	return { item: { char, count: run.length, opens, closes }, next: end };
}

function bracket(text, at, depth) {
	const image = text[at] === "!";
	const from = image ? at + 1 : at;
	if (text[from] !== "[")
		return null;
	const close = matching(text, from);
	if (close < 0 || text[close + 1] !== "(")
		return null;
	const m = /^\(\s*(?:<([^<>\n]*)>|([^\s()]*(?:\([^\s()]*\)[^\s()]*)*))(?:\s+(?:"[^"\n]*"|'[^'\n]*'))?\s*\)/.exec(text.slice(close + 1, close + 3000));
	const address = m && safeAddress(m[1] ?? m[2]);
	if (!address)
		return null;
	// A picture is shown as a link: the page fetches nothing that a model names.
	const label = text.slice(from + 1, close) || address;
	return { item: link(address, image ? label : inline(label, DEEPEST)), next: close + 1 + m[0].length };
}

function matching(text, from) {
	let open = 0;
	for (let i = from; i < text.length && i < from + 1000; i++) {
		if (text[i] === "\\")
			i++;
		else if (text[i] === "[")
			open++;
		else if (text[i] === "]" && --open === 0)
			return i;
	}
	return -1;
}

function angle(text, at) {
	const piece = text.slice(at, at + 2000);
	const br = /^<br ?\/?>/i.exec(piece);
	if (br)
		return { item: h("br"), next: at + br[0].length };
	const m = /^<([a-z][a-z0-9+.-]*:[^\s<>]*|[\w.+-]+@[\w.-]+)>/i.exec(piece);
	if (!m)
		return null;
	const address = safeAddress(m[1].includes(":") ? m[1] : `mailto:${m[1]}`);
	return address && { item: link(address, m[1].replace(/^mailto:/i, "")), next: at + m[0].length };
}

function bare(text, at) {
	const m = /^https?:\/\/[^\s<>"'`*]+/.exec(text.slice(at, at + 2000));
	if (!m || /\w/.test(text[at - 1] ?? ""))
		return null;
	// Full stops and brackets around an address are the sentence's.
	let address = m[0].replace(/[.,;:!?\])}]+$/, "");
	if (address.includes("(") && m[0][address.length] === ")")
		address += ")";
	const href = safeAddress(address);
	return href && { item: link(href, address), next: at + address.length };
}

const TAGS = { "*1": "em", "_1": "em", "*2": "strong", "_2": "strong", "~2": "del" };

// Pairs the marks: each closing one looks back for the nearest that can open it.
function emphasise(items) {
	const stack = [];
	const isMark = (x) => typeof x === "object" && !(x instanceof Node);

	for (const item of items) {
		if (isMark(item) && item.closes)
			close(stack, item);
		if (!isMark(item) || item.count > 0)
			stack.push(item);
	}
	return stack.map((x) => (isMark(x) ? x.char.repeat(x.count) : x));

	function close(done, mine) {
		let open = done.length - 1;
		for (const end = Math.max(0, done.length - FAR); mine.count > 0 && open >= end; open--) {
			const x = done[open];
			if (!isMark(x) || !x.opens || x.char !== mine.char)
				continue;
			const size = Math.min(2, x.count, mine.count);
			const tag = TAGS[mine.char + size];
			if (!tag)
				continue;
			const inside = done.splice(open + 1).map((y) => (isMark(y) ? y.char.repeat(y.count) : y));
			x.count -= size;
			mine.count -= size;
			if (x.count === 0)
				done.pop();
			done.push(h(tag, null, inside));
			open = done.length;
		}
	}
}
