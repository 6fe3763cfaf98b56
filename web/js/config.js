// config.json beside the page: what an operator may say about it.
//
//	api		where the API is, "api" by default: beside the page
//	name		the product's name
//	token_url	gives a token ({"token": "…"} or the bare text) to who has the site's cookie
//	sign_in_url	where a person signs in, should there be no cookie
//	support		an address (https: or mailto:) for help, shown with errors
//	suggestions	first messages offered in an empty conversation
//	streams		false: answers are never asked for as event streams, for hosts that hold those back (the
//			page finds that out by itself, but not before it has happened)
//	chatkit		{"domain_key": "…"}: OpenAI's element instead of this page (chatkit.js)

export const config = { api: "api", name: "Parley", token_url: null, sign_in_url: null, support: null, suggestions: null, streams: true, chatkit: null };

export async function loadConfig() {
	try {
		const answer = await fetch("config.json", { cache: "no-cache" });
		if (answer.ok)
			Object.assign(config, await answer.json());
	} catch {
		// Without it everything has its default.
	}
}
