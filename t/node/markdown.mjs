// The page's Markdown on texts that nobody would write: properties, with fast-check, and the time that long ones take.
// One JSON object a line on stdout: { name, ok, detail }.
//
//	node markdown.mjs WEB_FOLDER RUNS SEED
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

const require = createRequire(process.env.PARLEY_NODE_DIR + '/package.json');
const fc = require('fast-check');
const [web, runs, seed] = process.argv.slice(2);

// -- as much of a document as the page's Markdown asks for --

class Node {
	constructor(tag) {
		this.tag = tag;
		this.attributes = {};
		this.children = [];
		this.parent = null;
	}
	setAttribute(name, value) { this.attributes[name] = value; }
	addEventListener() {}
	append(...all) {
		for (const c of all) {
			if (c instanceof Node)
				c.parent = this;
			this.children.push(c instanceof Node ? c : String(c));
		}
	}
	remove() {
		this.parent.children.splice(this.parent.children.indexOf(this), 1);
	}
	get textContent() { return this.children.map((c) => (typeof c === 'string' ? c : c.textContent)).join(''); }
}
globalThis.Node = Node;
globalThis.document = { createElement: (tag) => new Node(tag), createElementNS: (_, tag) => new Node(tag), documentElement: new Node('html'),
	addEventListener() {}, querySelector: () => null };
globalThis.window = globalThis;
globalThis.localStorage = { getItem: () => null, setItem() {}, removeItem() {} };

const { Markdown } = await import(pathToFileURL(join(web, 'js/markdown/render.js')));

// -- what may come of a text --

const ALLOWED = {
	div: ['class', 'dir', 'tabindex', 'role', 'aria-label'], p: ['dir'], h3: ['dir'], h4: ['dir'], h5: ['dir'], h6: ['dir'], hr: ['dir'], br: [],
	blockquote: ['dir'], ul: ['dir'], ol: ['dir', 'start'], li: ['class'], span: ['class', 'role', 'aria-label'], table: [], thead: [], tbody: [],
	tr: [], th: ['class', 'scope'], td: ['class', 'scope'], pre: ['tabindex', 'role', 'aria-label'], code: ['dir'], button: ['type', 'class'],
	svg: ['viewBox', 'class', 'aria-hidden'], path: ['d'], em: [], strong: [], del: [], a: ['href', 'title', 'target', 'rel'],
};

function inspect(node) {
	for (const c of node.children) {
		if (typeof c === 'string')
			continue;
		const names = ALLOWED[c.tag];
		if (!names)
			throw new Error(`an element <${c.tag}>`);
		for (const [name, value] of Object.entries(c.attributes)) {
			if (!names.includes(name))
				throw new Error(`<${c.tag} ${name}>`);
			if (name === 'class' && !/^[a-z -]*$/.test(value))
				throw new Error(`a class ${value}`);
		}
		if (c.tag === 'a' && (!/^(?:https?:\/\/|mailto:)/.test(c.attributes.href) || c.attributes.target !== '_blank' || !/noopener/.test(c.attributes.rel)))
			throw new Error(`a link to ${c.attributes.href}`);
		inspect(c);
	}
}

const shape = (node) => (typeof node === 'string' ? node : [node.tag, node.attributes, node.children.map(shape)]);

// Neighbouring texts are one.
function settled(node) {
	if (typeof node === 'string')
		return node;
	const children = [];
	for (const c of node.children.map(settled)) {
		if (typeof c === 'string' && typeof children.at(-1) === 'string')
			children[children.length - 1] += c;
		else if (c !== '')
			children.push(c);
	}
	return [node.tag, node.attributes, children];
}

function drawn(text) {
	const m = new Markdown();
	m.draw(text, true);
	return m;
}

// -- texts --

const words = fc.constantFrom('a', 'word', 'Grüße', 'سلام', '😀', '1984. x', 'e\u0301', '\u202e', '\u0000', '\u00a0');
const marks = fc.constantFrom('*', '**', '***', '_', '__', '~~', '~', '`', '``', '```', '~~~', '[', ']', '(', ')', '![', '](', '<', '>', '&amp;', '&lt;', '&', '\\', '|', '#', '###### ', '> ',
	'- ', '* ', '+ ', '1. ', '2) ', '[x] ', '[ ] ', '---', '|---|:-:|', '\n', '\n\n', '\r\n', '\t', '    ', '  ', ' ', ':', '=', 'http://', 'https://a.example/(x)', 'javascript:alert(1)',
	'JaVaScRiPt&colon;x', 'data:text/html,x', 'mailto:a@b.c', '<a href=x>', '<script>', '<br>', '<img src=x onerror=y>', '"', "'", '{{x}}', '```js\n', '/*', '//', 'return "x"');
const text = fc.array(fc.oneof(words, marks, marks, fc.string({ maxLength: 4, unit: 'binary' })), { maxLength: 60 }).map((all) => all.join(''));
const plain = fc.array(fc.stringMatching(/^[A-Za-zÀ-ž ,.;?%$€"']{1,30}$/), { minLength: 1, maxLength: 8 });
const cuts = fc.array(fc.nat(), { maxLength: 12 });

const say = (name, ok, detail) => console.log(JSON.stringify({ name, ok, detail: ok ? '' : String(detail).slice(0, 2000) }));

function property(name, ...rest) {
	try {
		fc.assert(fc.property(...rest), { numRuns: Number(runs), seed: Number(seed) });
		say(name, true);
	} catch (e) {
		say(name, false, e.message);
	}
}

property('nothing but what is allowed comes of any text', text, (t) => inspect(drawn(t).element));

property('plain text stays what it is', plain, (lines) => {
	const want = lines.join(' ').replace(/\s+/g, ' ').trim();
	const got = drawn(lines.join('\n')).element.textContent.replace(/\s+/g, ' ').trim();
	// A line's end becomes an element, which has no text.
	if (got.replaceAll(' ', '') !== want.replaceAll(' ', ''))
		throw new Error(`${JSON.stringify(got)} of ${JSON.stringify(want)}`);
});

property('drawn in pieces it is what it is as a whole', text, cuts, (t, at) => {
	const m = new Markdown();
	for (const to of at.map((n) => n % (t.length + 1)).sort((a, b) => a - b)) {
		m.draw(t.slice(0, to), false);
		inspect(m.element);
		m.settled(0, false);
	}
	m.draw(t, true);
	const whole = JSON.stringify(settled(drawn(t).element)), pieces = JSON.stringify(settled(m.element));
	if (whole !== pieces)
		throw new Error(`${pieces}\nand as a whole\n${whole}`);
});

property('another text in its place leaves nothing behind', text, text, (a, b) => {
	const m = drawn(a);
	m.draw(b, true);
	if (JSON.stringify(shape(m.element)) !== JSON.stringify(shape(drawn(b).element)))
		throw new Error('something is left');
});

// -- long ones --

const LONG = 100000;
const pathological = {
	'blanks in a heading': (n) => `# ${' '.repeat(n)}x`,
	'a heading of #': (n) => `# ${'# '.repeat(n / 2)}x`,
	'blanks between the words of a heading': (n) => `# x${' '.repeat(n)}y`,
	'blanks in a heading of two lines': (n) => `# ${' '.repeat(n)}\u2028x`,
	'blanks in an item of two lines': (n) => `- ${' '.repeat(n)}\u2028x`,
	'code that begins with a blank': (n) => `\` ${'x'.repeat(n)}\``,
	'blanks in a fence': (n) => `\`\`\`${' '.repeat(n)}\``,
	'a fence of tildes': (n) => '~'.repeat(n) + ' '.repeat(n) + '`',
	'blanks in a delimiter': (n) => `a|b\n-${' '.repeat(n)}x`,
	'a delimiter without end': (n) => `a|b\n${'-|'.repeat(n / 2)}x`,
	'colons and dashes': (n) => `a|b\n${':-'.repeat(n / 2)}x`,
	'a rule with blanks': (n) => `***${' '.repeat(n)}x`,
	'many rules': (n) => `${'* '.repeat(n / 2)}x`,
	'stars': (n) => '*'.repeat(n),
	'stars and letters': (n) => '*a'.repeat(n / 2),
	'open marks': (n) => ' *a _b ~~c'.repeat(n / 10),
	'closing marks': (n) => 'a* b_ c~~ '.repeat(n / 10),
	'backticks': (n) => '`'.repeat(n),
	'backticks in runs of all lengths': (n) => Array.from({ length: Math.floor(Math.sqrt(2 * n)) }, (_, i) => `${'`'.repeat(i + 1)}a`).join(''),
	'brackets': (n) => '['.repeat(n),
	'links that do not end': (n) => '[a]('.repeat(n / 4),
	'links in links': (n) => '[a](b'.repeat(n / 5) + ')'.repeat(n / 5),
	'pictures': (n) => '![](x)'.repeat(n / 6),
	'link titles': (n) => `[a](http://b ${'"'.repeat(n)}`,
	'blanks in a link': (n) => `[a](http://b${' '.repeat(n)}`,
	'blanks in many links': (n) => `[a](http://b${' '.repeat(100)}`.repeat(n / 112),
	'blanks behind many brackets': (n) => `[a](${' '.repeat(2990)}`.repeat(n / 3000),
	'angles': (n) => '<'.repeat(n),
	'angles with schemes': (n) => '<a:'.repeat(n / 3),
	'addresses': (n) => '<a@b'.repeat(n / 4),
	'bare addresses': (n) => 'http://'.repeat(n / 7),
	'full stops after an address': (n) => `http://x${'.'.repeat(n)}x `,
	'brackets after an address': (n) => `http://x${')'.repeat(100)} `.repeat(n / 109),
	'entities': (n) => '&amp'.repeat(n / 4),
	'backslashes': (n) => '\\'.repeat(n),
	'quotes in quotes': (n) => '> '.repeat(n / 2),
	'lists in lists': (n) => '- '.repeat(n / 2),
	'a deep list': (n) => Array.from({ length: Math.floor(Math.sqrt(n)) }, (_, i) => `${' '.repeat(i)}- x`).join('\n'),
	'items': (n) => '- x\n'.repeat(n / 4),
	'items with gaps': (n) => '- x\n\n'.repeat(n / 5),
	'lazy lines': (n) => `> ${'x\n'.repeat(n / 2)}`,
	'lines': (n) => 'x\n'.repeat(n / 2),
	'lines with bars': (n) => 'a|b\n'.repeat(n / 4),
	'bars': (n) => '|'.repeat(n) + '\n' + '|-'.repeat(n / 2),
	'a wide table': (n) => `${'|a'.repeat(n / 8)}\n${'|-'.repeat(n / 8)}\n${'|`'.repeat(n / 4)}`,
	'a long table': (n) => `|a|\n|-|\n${'|x|\n'.repeat(n / 4)}`,
	'a wide table with many short rows': (n) => `${'|a'.repeat(Math.sqrt(n))}\n${'|-'.repeat(Math.sqrt(n))}\n${'|\n'.repeat(Math.sqrt(n))}`,
	'code of quotes': (n) => `\`\`\`js\n${'"\\'.repeat(n / 2)}\n\`\`\``,
	'code of comments': (n) => `\`\`\`js\n${'/*'.repeat(Math.min(n, 19000) / 2)}\n\`\`\``,
	'code of backticks and dots': (n) => `\`\`\`js\n${'1...`'.repeat(Math.min(n, 19000) / 5)}\n\`\`\``,
	'a fence that does not end': (n) => `\`\`\`js\n${'x\n'.repeat(n / 2)}`,
	'line ends': (n) => '\n'.repeat(n),
	'tabs': (n) => '\t'.repeat(n),
	'emoji': (n) => '😀'.repeat(n / 2),
};

// Of the processor's time: what others do on the machine is not the text's fault.
function took(make, n) {
	const t = make(n);
	const from = process.cpuUsage();
	drawn(t);
	const { user, system } = process.cpuUsage(from);
	return (user + system) / 1e3;
}

// Four times the text may take some more than four times as long; what takes no time at all may take any multiple of it.
for (const [name, make] of Object.entries(pathological)) {
	took(make, 1000);
	let small = 0, large = 0;
	for (let tries = 0; tries < 3; tries++) {
		small = took(make, LONG / 4);
		large = small > 5000 ? Infinity : took(make, LONG);
		if (large < 100 || large < small * 9)
			break;
	}
	say(`100 KB: ${name}`, large < 100 || (large < small * 9 && large < 3000), `${small.toFixed(0)} ms for a quarter, ${large.toFixed(0)} ms for all of it`);
}
