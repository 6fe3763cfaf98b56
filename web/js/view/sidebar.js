// The list of conversations: by recency, searched by title, each with what happens in it.

import { config } from "../config.js";
import { h, icon, iconButton, replace } from "../dom.js";
import { t } from "../words.js";
import { sentence } from "./errors.js";
import { daysAgo, full } from "./format.js";

export class Sidebar {
	#drawn = "";
	#timer = null;
	current = null;

	// actions: { create(), rename(row), remove(row), settings(), close() }
	constructor(library, actions) {
		this.library = library;
		this.actions = actions;
		this.searchBox = h("input", { type: "search", id: "search", placeholder: t("search"), "aria-label": t("search"), autocomplete: "off", dir: "auto",
			oninput: () => this.#search(), onkeydown: (e) => this.#searchKey(e) });
		this.list = h("div", { class: "list" });
		this.closeButton = iconButton("close", t("close_list"), () => actions.close(), { class: "icon-button only-narrow" });
		this.element = h("aside", { class: "sidebar", id: "sidebar", "aria-label": t("conversations") },
			h("div", { class: "sidebar-head" }, h("a", { class: "brand", href: "#/" }, h("span", { class: "mark", "aria-hidden": "true" }), config.name),
				iconButton("settings", t("settings"), () => actions.settings()), this.closeButton),
			h("button", { type: "button", class: "create", onclick: () => actions.create() }, icon("plus"), h("span", null, t("new_chat")), h("kbd", { "aria-hidden": "true" }, "Ctrl ⇧ O")),
			h("div", { class: "search", role: "search" }, icon("search"), this.searchBox),
			h("nav", { class: "list-frame", "aria-label": t("conversations"), onscroll: () => this.#scrolled() }, this.list));
		library.watch(() => this.update());
		this.update();
	}

	update() {
		const { library } = this;
		const rows = library.rows.map((row) => ({ ...row, state: library.stateOf(row) }));
		const drawn = JSON.stringify([rows, this.current, library.next, library.loading && rows.length === 0, library.error?.code, library.loaded]);
		if (drawn === this.#drawn)
			return;
		this.#drawn = drawn;
		const focused = document.activeElement?.dataset?.key;
		replace(this.list, this.#groups(rows), this.#note(rows),
			library.next ? h("button", { type: "button", class: "more", "data-key": "more", onclick: () => library.more() }, t("more")) : null);
		// The list is drawn anew while somebody walks through it with the keyboard.
		if (focused)
			this.list.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
	}

	#note(rows) {
		const { library } = this;
		if (rows.length > 0)
			return null;
		if (library.error)
			return h("div", { class: "list-note" }, h("p", null, sentence(library.error)),
				h("button", { type: "button", onclick: () => library.read() }, t("try_again")));
		if (library.loaded === false)
			return null;
		return h("p", { class: "list-note" }, library.query ? t("search_none", { query: library.query }) : t("list_empty"));
	}

	#groups(rows) {
		const groups = [];
		for (const row of rows) {
			const name = ageOf(row.updated_at);
			if (groups.at(-1)?.name !== name)
				groups.push({ name, items: [] });
			groups.at(-1).items.push(this.#item(row));
		}
		return groups.map((g, n) => h("section", { class: "group", "aria-labelledby": `group-${n}` }, h("h2", { id: `group-${n}` }, t(g.name)), h("ul", null, g.items)));
	}

	#item(row) {
		const title = row.title || t("untitled");
		const busy = row.state !== "idle" ? h("span", { class: `badge badge-${row.state}`, title: t(`state_${row.state}`) },
			h("span", { class: "off-screen" }, t(`state_${row.state}`))) : null;
		return h("li", { class: "row" },
			h("a", { href: `#/c/${row.id}`, "data-key": row.id, "aria-current": row.id === this.current ? "page" : null, title: full(row.updated_at) },
				h("span", { class: "row-title", dir: "auto" }, title), busy),
			h("span", { class: "row-actions" },
				iconButton("edit", `${t("rename")}: ${title}`, () => this.actions.rename(row), { "data-key": `rename ${row.id}` }),
				iconButton("trash", `${t("delete")}: ${title}`, () => this.actions.remove(row), { "data-key": `delete ${row.id}` })));
	}

	#scrolled() {
		const frame = this.list.parentElement;
		if (this.library.next && frame.scrollHeight - frame.scrollTop - frame.clientHeight < 200)
			this.library.more();
	}

	#search() {
		clearTimeout(this.#timer);
		this.#timer = setTimeout(() => this.library.search(this.searchBox.value), 180);
	}

	#searchKey(event) {
		if (event.key === "Escape" && this.searchBox.value !== "") {
			event.stopPropagation();
			this.searchBox.value = "";
			this.#search();
		} else if (event.key === "ArrowDown") {
			event.preventDefault();
			this.list.querySelector("a")?.focus();
		}
	}
}

function ageOf(iso) {
	const days = daysAgo(iso);
	return days <= 0 ? "today" : days === 1 ? "yesterday" : days < 7 ? "last_week" : days < 30 ? "last_month" : "earlier";
}
