// A little colour for code: comments, strings, numbers, keywords.  No grammar of any
// language, so it is right most of the time and harmless the rest: only colours are at stake.

import { h } from "../dom.js";

const WORDS = "abstract and as assert async await begin bool boolean break byte case catch char class const continue " +
	"def default defer del delete do double elif else elsif end enum esac except export extends extern false fi final " +
	"finally float fn for foreach from func function go goto if impl implements import in include instanceof int " +
	"interface is lambda let local long loop match mod module mut my namespace new nil none None not null nullptr of " +
	"or our package pass private protected pub public raise require return self short signed sizeof static struct sub " +
	"super switch then this throw throws trait true True False try type typedef typeof undef union unless unsigned " +
	"until use using val var virtual void when where while with yield";
const SQL = "add all alter and as asc begin between by cascade case check column commit constraint create cross default " +
	"delete desc distinct drop else end exists false foreign from full function grant group having if in index inner " +
	"insert into is join key language left like limit not null offset on or order outer primary references returning " +
	"revoke right select set table then true union unique update using values view when where with";

const HASH = new Set(["py", "python", "sh", "bash", "shell", "zsh", "perl", "pl", "ruby", "rb", "yaml", "yml", "toml",
	"make", "makefile", "dockerfile", "r", "conf", "nginx", "ini", "console"]);
const PLAIN = new Set(["", "text", "txt", "plain", "plaintext", "output", "markdown", "md", "diff"]);
const LARGEST = 20000;

export function highlight(text, language) {
	const name = language.toLowerCase();
	if (PLAIN.has(name) || text.length > LARGEST)
		return [text];
	const sql = name.includes("sql");
	const words = new Set((sql ? SQL : WORDS).split(" "));
	const comment = HASH.has(name) ? "#[^\\n]*" : sql ? "--[^\\n]*|/\\*[^]*?(?:\\*/|$)"
	    : name === "html" || name === "xml" ? "<!--[^]*?(?:-->|$)" : "//[^\\n]*|/\\*[^]*?(?:\\*/|$)";
	const pattern = new RegExp(`(${comment})|("(?:[^"\\\\\\n]|\\\\.)*"|'(?:[^'\\\\\\n]|\\\\.)*'|\`[^\`]*\`)|\\b(\\d[\\w.]*)\\b|([A-Za-z_]\\w*)`, "g");
	const out = [];
	let at = 0;

	for (const m of text.matchAll(pattern)) {
		const kind = m[1] ? "comment" : m[2] ? "string" : m[3] ? "number"
		    : words.has(sql ? m[4].toLowerCase() : m[4]) ? "keyword" : null;
		if (!kind)
			continue;
		out.push(text.slice(at, m.index), h("span", { class: `hl-${kind}` }, m[0]));
		at = m.index + m[0].length;
	}
	out.push(text.slice(at));
	return out;
}
