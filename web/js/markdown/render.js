// Markdown on the screen.  A Markdown object owns one element and draws a text into it;
// when the text has grown, only its last two blocks are drawn again.

import { h, icon } from "../dom.js";
import { t } from "../words.js";
import { copyText } from "../view/copy.js";
import { highlight } from "./highlight.js";
import { inline } from "./inline.js";
import { parse } from "./blocks.js";

export class Markdown {
	constructor() {
		this.element = h("div", { class: "prose" });
		this.text = "";
		this.blocks = [];	// { at, node }
	}

	// Draws the text; finished: nothing will be added to it.
	draw(text, finished) {
		const grown = text.startsWith(this.text) && this.blocks.length > 2 && (!finished || this.#agrees(text));
		// A list that looked ended may go on, so the last block but one is not safe either.
		const keep = grown ? this.blocks.length - 2 : 0;
		const from = grown ? this.blocks[keep].at : 0;

		if (text === this.text && !finished)
			return;
		for (const old of this.blocks.splice(keep))
			old.node.remove();
		const fresh = parse(text.slice(from), from);
		for (const block of fresh) {
			const node = draw(block, finished || block !== fresh.at(-1));
			// Each block runs as its own words do, with all that is in it.
			node.setAttribute("dir", block.type === "code" ? "ltr" : "auto");
			this.blocks.push({ at: block.at, type: block.type, node });
			this.element.append(node);
		}
		this.text = text;
	}

	// At the end the whole is looked at once more: does it have the blocks that were drawn piece by piece?
	#agrees(text) {
		const whole = parse(text);
		return this.blocks.slice(0, -2).every((b, i) => whole[i]?.at === b.at && whole[i].type === b.type && whole[i + 1]?.at === this.blocks[i + 1].at);
	}

	// What is certain to stay as it is, from an offset on: for those who listen instead of look.
	settled(from, finished) {
		const to = finished ? this.text.length : this.blocks.at(-1)?.at ?? 0;
		const nodes = this.blocks.filter((b) => b.at >= from && b.at < to).map((b) => b.node.textContent);
		return { text: nodes.join("\n"), to: Math.max(to, from) };
	}
}

function draw(block, finished) {
	switch (block.type) {
	case "heading":
		// The page has h1 and h2 itself.
		return h(`h${Math.min(6, block.level + 2)}`, null, inline(block.text));
	case "rule":
		return h("hr");
	case "quote":
		return h("blockquote", null, block.blocks.map((b) => draw(b, finished)));
	case "list":
		return drawList(block, finished);
	case "table":
		return drawTable(block);
	case "code":
		return drawCode(block, finished);
	default:
		return h("p", null, inline(block.text));
	}
}

function drawList(block, finished) {
	const items = block.items.map((item) => {
		const kids = item.blocks.map((b) =>
			(b.type === "paragraph" && !block.loose ? inline(b.text) : draw(b, finished)));
		if (item.checked === null)
			return h("li", null, kids);
		const box = h("span", { class: item.checked ? "box box-done" : "box", role: "img",
			"aria-label": t(item.checked ? "done" : "open") }, item.checked ? icon("check") : null);
		return h("li", { class: "task" }, box, h("div", null, kids));
	});
	return block.ordered ? h("ol", { start: block.start === 1 ? null : block.start }, items) : h("ul", null, items);
}

function drawTable(block) {
	const cell = (tag) => (text, n) =>
		h(tag, { class: block.align[n] ? `align-${block.align[n]}` : null, scope: tag === "th" ? "col" : null }, inline(text));
	// It scrolls by itself; the keyboard must be able to get there.
	return h("div", { class: "table", tabindex: "0", role: "region", "aria-label": t("table") },
		h("table", null, h("thead", null, h("tr", null, block.head.map(cell("th")))),
			h("tbody", null, block.rows.map((row) => h("tr", null, row.map(cell("td")))))));
}

function drawCode(block, finished) {
	const ready = block.closed || finished;
	const label = h("span", null, t("copy"));
	const button = h("button", { type: "button", class: "code-copy", onclick: () => copyText(block.text, label) }, icon("copy"), label);

	return h("div", { class: "code", dir: "ltr" },
		h("div", { class: "code-head" }, h("span", { class: "code-language" }, block.language || t("code")), button),
		h("pre", { tabindex: "0", role: "region", "aria-label": t("code") }, h("code", null, ready ? highlight(block.text, block.language) : block.text)));
}
