// OpenAI's own ChatKit element in the place of this page, where the operator has a domain key of
// theirs.  It is loaded from their host at each visit and reports there, so it is off
// by default, and the page's Content-Security-Policy has to allow it (parley.conf(5), [chatkit]).

import { config } from "./config.js";
import { h, replace } from "./dom.js";
import * as auth from "./net/auth.js";

const SCRIPT = "https://cdn.platform.openai.com/deployments/chatkit/chatkit.js";

export const wanted = () => Boolean(config.chatkit?.domain_key);

function load(url) {
	return new Promise((resolve, reject) => {
		const script = h("script", { async: true });
		script.addEventListener("load", resolve);
		script.addEventListener("error", () => reject(new Error("the ChatKit element cannot be loaded")));
		// Where the policy has not been changed this throws, and the page is ours as ever.
		script.src = url;
		document.head.append(script);
	});
}

// As the element's own requests, with a token; and once more with another when that one has expired.
async function withToken(input, init = {}) {
	for (;;) {
		const token = await auth.token();
		const headers = new Headers(init.headers);
		headers.set("Authorization", `Bearer ${token}`);
		const answer = await fetch(input, { ...init, headers });
		if (answer.status !== 401)
			return answer;
		await auth.renew(token);
	}
}

// Throws when the element cannot be had.
export async function start() {
	await load(SCRIPT);
	await customElements.whenDefined("openai-chatkit");
	const element = h("openai-chatkit", { class: "chatkit" });

	element.setOptions({
		api: { url: new URL(`${config.api}/chatkit`, location.href).href, domainKey: config.chatkit.domain_key, fetch: withToken },
		locale: document.documentElement.lang,
		history: { enabled: true, showDelete: true, showRename: true },
		threadItemActions: { retry: true, feedback: true },
		theme: matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light",
	});
	replace(document.body, element);
}
