// Elements from data.  Nothing in this page ever parses HTML: text goes in as text nodes,
// attributes by setAttribute, so what a model or a tool says cannot become markup.

const SVG = "http://www.w3.org/2000/svg";

// h("p", { class: "x", onclick: f, hidden: false }, "text", node, null, [more])
export function h(tag, attrs, ...children) {
	const el = document.createElement(tag);
	for (const [name, value] of Object.entries(attrs ?? {})) {
		if (value === null || value === undefined || value === false)
			continue;
		if (name.startsWith("on"))
			el.addEventListener(name.slice(2), value);
		else
			el.setAttribute(name, value === true ? "" : String(value));
	}
	el.append(...children.flat(Infinity).filter((c) => c !== null && c !== undefined && c !== false));
	return el;
}

// Outlines on a grid of 24, drawn with the colour of the text around them.
const PATHS = {
	plus: "M12 5v14M5 12h14",
	menu: "M4 7h16M4 12h16M4 17h10",
	close: "M6 6l12 12M18 6L6 18",
	send: "M12 19V5M6 11l6-6 6 6",
	stop: "M8 8h8v8H8z",
	down: "M12 5v14M6 13l6 6 6-6",
	copy: "M9 9h10v11H9zM15 9V5H5v11h4",
	check: "M5 12.5l4.5 4.5L19 7.5",
	retry: "M20 11a8 8 0 1 0-2.3 6.3M20 5v6h-6",
	edit: "M4 20h4L19 9l-4-4L4 16zM13.5 6.5l4 4",
	trash: "M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13M10.5 11v5M13.5 11v5",
	search: "M11 4a7 7 0 1 0 0 14 7 7 0 0 0 0-14zM20 20l-4-4",
	settings: "M4 7h9M17 7h3M4 17h3M11 17h9M15 5v4M9 15v4",
	tool: "M14.5 6.5a4 4 0 0 0-5 5L4 17l3 3 5.5-5.5a4 4 0 0 0 5-5L15 12l-3-3z",
	chevron: "M9 6l6 6-6 6",
	alert: "M12 4l9 16H3zM12 10v4M12 17v.5",
	clock: "M12 4a8 8 0 1 0 0 16 8 8 0 0 0 0-16zM12 8v4.5l3 2",
	key: "M8 11a4 4 0 1 0 0 8 4 4 0 0 0 0-8zM11 12l8-8M16 7l3 3",
	shield: "M12 3l7 3v5c0 5-3 8-7 10-4-2-7-5-7-10V6zM9 12l2 2 4-4",
};

export function icon(name) {
	const svg = document.createElementNS(SVG, "svg");
	const path = document.createElementNS(SVG, "path");
	svg.setAttribute("viewBox", "0 0 24 24");
	svg.setAttribute("class", `icon icon-${name}`);
	svg.setAttribute("aria-hidden", "true");
	path.setAttribute("d", PATHS[name]);
	svg.append(path);
	return svg;
}

// A button that is a picture: its label is what a screen reader says and a mouse shows.
export function iconButton(name, label, onclick, attrs) {
	return h("button", { type: "button", class: "icon-button", "aria-label": label, title: label, onclick, ...attrs }, icon(name));
}

export function replace(parent, ...children) {
	parent.replaceChildren(...children.flat(Infinity).filter(Boolean));
}
