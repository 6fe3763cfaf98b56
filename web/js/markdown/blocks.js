// Markdown into a tree of plain objects: the blocks.  What models write, not all of
// CommonMark: no setext headings, no reference links, no HTML, no indented code
// (models indent text by accident more often than they mean code by it).
//
// Lines are read once from top to bottom, and only the last blocks can change when
// text is appended: render.js relies on that to redraw no more than those.

// None of these may look at a blank twice: a line of 100 KB must not take a minute.
const FENCE = /^ {0,3}(`{3,}|~{3,}(?!~))([^`]*)$/;
const HEADING = /^ {0,3}(#{1,6})(?:\s([^]*))?$/;
const RULE = /^ {0,3}(?:(?:\*\s*){3,}|(?:-\s*){3,}|(?:_\s*){3,})$/;
const QUOTE = /^ {0,3}> ?/;
const ITEM = /^( {0,3})([-*+]|\d{1,9}[.)])(?:( +)([^]*)|\s*)$/;
const DELIMITER = /^ {0,3}\|?\s*:?-+:?\s*(?:\|\s*:?-+:?\s*)*(?:\|\s*)?$/;
const BLANK = /^\s*$/;

// Hostile text nests without end; past this it is a paragraph.
const DEEPEST = 12;

// [{ type, at, … }]; at is the offset in the text where the block begins.
export function parse(text, base = 0) {
	const lines = [];
	let at = 0;

	for (const line of text.split("\n")) {
		lines.push({ text: line.replace(/\r$/, "").replaceAll("\t", "    "), at: base + at });
		at += line.length + 1;
	}
	return blocks(lines, 0);
}

function blocks(lines, depth) {
	const out = [];
	let i = 0;

	while (i < lines.length) {
		if (BLANK.test(lines[i].text)) {
			i++;
			continue;
		}
		const block = fence(lines, i) ?? heading(lines, i) ?? rule(lines, i) ??
		    (depth < DEEPEST ? quote(lines, i, depth) ?? list(lines, i, depth) : null) ??
		    table(lines, i) ?? paragraph(lines, i, depth);
		block.at = lines[i].at;
		out.push(block);
		i = block.next;
	}
	return out;
}

function fence(lines, i) {
	const open = FENCE.exec(lines[i].text);
	if (!open)
		return null;
	const indent = /^ */.exec(lines[i].text)[0].length;
	const body = [];
	let closed = false;

	for (i++; i < lines.length; i++) {
		const line = lines[i].text;
		const close = /^ {0,3}(`{3,}|~{3,})\s*$/.exec(line);
		if (close && close[1][0] === open[1][0] && close[1].length >= open[1].length) {
			closed = true;
			i++;
			break;
		}
		body.push(line.replace(new RegExp(`^ {0,${indent}}`), ""));
	}
	return { type: "code", language: open[2].trimStart().split(/\s/, 1)[0], text: body.join("\n"), closed, next: i };
}

function heading(lines, i) {
	const m = HEADING.exec(lines[i].text);
	if (!m)
		return null;
	let text = (m[2] ?? "").trim(), end = text.length;
	// The marks that close it are none of its words.
	while (text[end - 1] === "#")
		end--;
	if (/\s/.test(text[end - 1] ?? ""))
		text = text.slice(0, end).trimEnd();
	return { type: "heading", level: m[1].length, text, next: i + 1 };
}

function rule(lines, i) {
	return RULE.test(lines[i].text) ? { type: "rule", next: i + 1 } : null;
}

function quote(lines, i, depth) {
	if (!QUOTE.test(lines[i].text))
		return null;
	const inner = [];

	// A line without ">" right after one belongs to its paragraph.
	for (; i < lines.length; i++) {
		const { text, at } = lines[i];
		if (QUOTE.test(text))
			inner.push({ text: text.replace(QUOTE, ""), at });
		else if (BLANK.test(text) || BLANK.test(inner.at(-1).text) || starts(lines, i))
			break;
		else
			inner.push(lines[i]);
	}
	return { type: "quote", blocks: blocks(inner, depth + 1), next: i };
}

const isOrdered = (marker) => /\d/.test(marker);
const kin = (a, b) => (isOrdered(a) ? a.at(-1) === b.at(-1) && isOrdered(b) : a === b);

function list(lines, i, depth) {
	const first = ITEM.exec(lines[i].text);
	if (!first)
		return null;
	const items = [];
	let loose = false;

	while (i < lines.length) {
		const m = ITEM.exec(lines[i].text);
		if (!m || !kin(first[2], m[2]) || RULE.test(lines[i].text))
			break;
		const item = gather(lines, i, m);
		const check = /^\[([ xX])\] +/.exec(item.lines[0].text);
		if (check)
			item.lines[0].text = item.lines[0].text.slice(check[0].length);
		const kids = blocks(item.lines, depth + 1);
		items.push({ blocks: kids, checked: check ? check[1] !== " " : null });
		i = item.next;
		loose ||= item.gap || (item.blankAfter && i < lines.length && ITEM.test(lines[i].text));
	}
	return { type: "list", ordered: isOrdered(first[2]), start: parseInt(first[2], 10), loose, items, next: i };
}

// The lines of one item: those that are indented as far as its text, and lines that lazily go on.
function gather(lines, i, m) {
	const width = m[1].length + m[2].length + Math.min(m[3]?.length ?? 1, 4);
	const out = [{ text: m[4] ?? "", at: lines[i].at }];
	let blank = false, gap = false;

	for (i++; i < lines.length; i++) {
		const { text, at } = lines[i];
		const indent = /^ */.exec(text)[0].length;
		if (BLANK.test(text)) {
			blank = true;
			out.push({ text: "", at });
		} else if (indent >= width || (indent >= 2 && !blank) || (indent >= 2 && ITEM.test(text.trimStart()))) {
			// Two spaces are enough: models do not count.
			gap ||= blank && !ITEM.test(text.trimStart());
			blank = false;
			out.push({ text: text.slice(Math.min(indent, width)), at });
		} else if (blank || starts(lines, i) || ITEM.test(text)) {
			break;
		} else {
			out.push(lines[i]);
		}
	}
	while (out.length > 1 && out.at(-1).text === "")
		out.pop();
	return { lines: out, next: i, gap, blankAfter: blank };
}

function table(lines, i) {
	if (i + 1 >= lines.length || !lines[i].text.includes("|") || !DELIMITER.test(lines[i + 1].text))
		return null;
	const head = cells(lines[i].text);
	const align = cells(lines[i + 1].text).map((c) =>
		(c.endsWith(":") ? (c.startsWith(":") ? "center" : "end") : null));
	if (head.length !== align.length)
		return null;
	const rows = [];

	for (i += 2; i < lines.length && !BLANK.test(lines[i].text) && lines[i].text.includes("|"); i++) {
		const row = cells(lines[i].text);
		rows.push(head.map((_, n) => row[n] ?? ""));
	}
	return { type: "table", head, align, rows, next: i };
}

// The cells of a row; "\|" and a bar inside of `code` are no borders.
function cells(line) {
	const out = [""];
	let code = false;
	const text = line.trim().replace(/^\|/, "").replace(/\|$/, "");

	for (let i = 0; i < text.length; i++) {
		if (text[i] === "\\" && text[i + 1] === "|") {
			out[out.length - 1] += "|";
			i++;
		} else if (text[i] === "|" && !code) {
			out.push("");
		} else {
			if (text[i] === "`")
				code = !code && text.indexOf("`", i + 1) > 0;
			out[out.length - 1] += text[i];
		}
	}
	return out.map((c) => c.trim());
}

// Does another block begin at this line, in the middle of a paragraph?
function starts(lines, i) {
	const { text } = lines[i];
	if (FENCE.test(text) || HEADING.test(text) || RULE.test(text) || QUOTE.test(text))
		return true;
	const item = ITEM.exec(text);
	// "1984. What a year" goes on; a list that interrupts begins at 1 and is not empty.
	return Boolean(item && item[4] && (!isOrdered(item[2]) || parseInt(item[2], 10) === 1));
}

function paragraph(lines, i, depth) {
	const text = [lines[i].text.trimStart()];

	for (i++; i < lines.length && !BLANK.test(lines[i].text); i++) {
		if ((starts(lines, i) && depth < DEEPEST) || table(lines, i))
			break;
		text.push(lines[i].text.trimStart());
	}
	return { type: "paragraph", text: text.join("\n"), next: i };
}
