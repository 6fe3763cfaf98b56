// The page: puts its parts together and follows the address (#/ and #/c/<id>).

import * as chatkit from "./chatkit.js";
import { loadConfig, config } from "./config.js";
import { h, iconButton, replace } from "./dom.js";
import { Library } from "./model/library.js";
import * as outbox from "./model/outbox.js";
import * as auth from "./net/auth.js";
import { announcer } from "./view/announce.js";
import { Composer } from "./view/composer.js";
import { confirm, prompt } from "./view/dialog.js";
import { sentence } from "./view/errors.js";
import { settings } from "./view/settings.js";
import { Sidebar } from "./view/sidebar.js";
import { signIn } from "./view/signin.js";
import { Thread } from "./view/thread.js";
import { toast, toaster } from "./view/toast.js";
import { chooseLanguage, t } from "./words.js";

const TITLE = 200;

class App {
	#thread = null;
	#conversation = null;
	#unwatch = () => {};

	start() {
		this.library = new Library();
		this.sidebar = new Sidebar(this.library, {
			create: () => this.create(), rename: (row) => this.rename(row), remove: (row) => this.remove(row),
			settings: () => settings(), close: () => this.drawer(false),
		});
		this.composer = new Composer({ send: (text) => this.send(text), stop: () => this.stop() });
		this.build();
		this.library.onElsewhere = (id) => {
			if (id === this.#conversation?.id)
				this.#conversation.read();
		};
		addEventListener("hashchange", () => this.route());
		addEventListener("pagehide", () => this.composer.flush());
		document.addEventListener("visibilitychange", () => this.look());
		addEventListener("online", () => this.look());
		document.addEventListener("keydown", (event) => this.key(event));
		this.library.read();
		this.sendAgain();
		this.route();
	}

	build() {
		this.heading = h("h1", { dir: "auto" });
		this.menu = iconButton("menu", t("open_list"), () => this.drawer(true), { class: "icon-button only-narrow", "aria-expanded": "false", "aria-controls": "sidebar" });
		this.headActions = h("span", { class: "head-actions" },
			iconButton("edit", t("rename"), () => this.rename(this.#row())),
			iconButton("trash", t("delete"), () => this.remove(this.#row())));
		this.create_ = iconButton("plus", t("new_chat"), () => this.create(), { class: "icon-button only-narrow" });
		this.place = h("div", { class: "thread-place" });
		this.main = h("main", { class: "main" }, h("header", { class: "head" }, this.menu, this.heading, this.headActions, this.create_), this.place, this.composer.element);
		this.veil = h("div", { class: "veil", onclick: () => this.drawer(false) });
		const skip = h("a", { class: "skip", href: "#message", onclick: (e) => { e.preventDefault(); this.composer.focus(); } }, t("skip"));
		replace(document.body, skip, this.sidebar.element, this.veil, this.main, announcer(), toaster());
		// Wide again: nothing is shut away.
		matchMedia("(min-width: 800px)").addEventListener("change", () => this.drawer(false));
		this.drawer(false);
	}

	// --- where we are

	route() {
		const id = /^#\/c\/([0-9a-f-]{36})$/.exec(location.hash)?.[1] ?? null;
		if (this.#conversation && this.#conversation.id === id && (id || !this.#conversation.live))
			return;
		this.show(this.library.open(id));
	}

	show(conversation) {
		this.#thread?.gone();
		this.#unwatch();
		this.#conversation = conversation;
		conversation.onNew = (c) => {
			if (this.#conversation === c) {
				this.composer.moved(c.id);
				history.replaceState(null, "", `#/c/${c.id}`);
			}
			this.update();
		};
		this.#thread = new Thread(conversation, {
			edit: (turn) => this.composer.fill(conversation.discard(turn)),
			focus: () => this.composer.focus(), suggest: (text) => this.send(text),
		});
		replace(this.place, this.#thread.element);
		this.composer.show(conversation.id);
		const a = conversation.watch(() => this.update());
		const b = this.library.watch(() => this.update());
		this.#unwatch = () => { a(); b(); };
		this.update();
		this.drawer(false);
		if (conversation.id)
			conversation.read();
		if (!matchMedia("(pointer: coarse)").matches)
			this.composer.focus();
	}

	update() {
		const c = this.#conversation;
		const title = c.title ?? this.#row()?.title ?? (c.id ? "" : t("new_chat"));

		this.heading.textContent = title;
		document.title = title ? `${title} · ${config.name}` : config.name;
		this.headActions.hidden = !c.id;
		this.composer.update(c.live);
		this.sidebar.current = c.id;
		this.sidebar.update();
		for (const turn of c.turns)
			turn.watching ??= turn.watch(() => c.changed());
	}

	#row() {
		const c = this.#conversation;
		return c.id ? this.library.row(c.id) ?? { id: c.id, title: c.title } : null;
	}

	// Back from sleep, another tab, or no network: what has happened meanwhile?
	look() {
		if (document.hidden)
			return this.composer.flush();
		this.library.read();
		this.#conversation?.read();
	}

	drawer(open) {
		const narrow = !matchMedia("(min-width: 800px)").matches;
		document.body.classList.toggle("drawer-open", open);
		this.menu.setAttribute("aria-expanded", String(open));
		this.main.inert = open;
		this.sidebar.element.inert = narrow && !open;
		if (open)
			this.sidebar.closeButton.focus();
	}

	// --- what is done

	send(text) {
		const c = this.#conversation;
		c.send(text);
		this.#thread.toEnd(false);
		this.update();
		this.composer.focus();
	}

	// A message that a reload or a crash kept from getting there goes with its own key.
	sendAgain() {
		const fresh = outbox.pending();
		for (const message of fresh) {
			const c = this.library.open(message.conversation);
			if (message.conversation)
				c.read().then(() => c.send(message.text, message));
			else {
				c.send(message.text, message);
				if (!/^#\/c\//.test(location.hash))
					this.show(c);
			}
		}
	}

	async stop() {
		const turn = this.#conversation.turns.find((x) => x.state === "running") ?? this.#conversation.live;
		try {
			if (turn)
				await this.#conversation.stop(turn);
		} catch (error) {
			toast(sentence(error));
		}
	}

	create() {
		this.drawer(false);
		if (location.hash === "" || location.hash === "#/")
			this.show(this.library.open(null));
		else
			location.hash = "#/";
		this.composer.focus();
	}

	async rename(row) {
		const title = row && await prompt({ title: t("rename_title"), label: t("title"), value: row.title ?? "", longest: TITLE });
		if (!title)
			return;
		try {
			await this.library.open(row.id).rename(title);
		} catch (error) {
			toast(sentence(error));
		}
		this.library.read();
	}

	async remove(row) {
		const yes = row && await confirm({ title: t("delete_title"), text: t("delete_text", { title: row.title || t("untitled") }), yes: t("delete") });
		if (!yes)
			return;
		try {
			await this.library.remove(row.id);
			toast(t("deleted"));
			if (this.#conversation.id === row.id)
				this.create();
		} catch (error) {
			toast(sentence(error));
		}
	}

	key(event) {
		const ctrl = event.ctrlKey || event.metaKey;
		const typing = /^(?:INPUT|TEXTAREA|SELECT)$/.test(document.activeElement?.tagName ?? "");

		if (document.querySelector("dialog[open]"))
			return;
		if (ctrl && event.shiftKey && event.key.toLowerCase() === "o") {
			this.create();
		} else if (ctrl && !event.shiftKey && event.key.toLowerCase() === "k") {
			if (!matchMedia("(min-width: 800px)").matches)
				this.drawer(true);
			this.sidebar.searchBox.focus();
		} else if (event.key === "/" && !typing && !ctrl) {
			this.composer.focus();
		} else if (event.key === "Escape" && document.body.classList.contains("drawer-open")) {
			this.drawer(false);
			this.menu.focus();
		} else if (event.key === "Escape" && this.#conversation.live) {
			this.stop();
		} else {
			return;
		}
		event.preventDefault();
	}
}

await Promise.all([loadConfig(), chooseLanguage()]);
auth.onAsk(signIn);
auth.startAuth();

// Should the element not be had, or not be allowed, this page is there.
if (!chatkit.wanted() || !await chatkit.start().then(() => true, () => false))
	new App().start();
