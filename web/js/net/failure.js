// The two ways in which a request does not succeed.

// The server has answered, and said no.  A body of the API's form, or none.
export class Refusal extends Error {
	constructor(status, body, retryAfter) {
		super(body?.message ?? `HTTP ${status}`);
		this.status = status;
		this.code = body?.error_code ?? (status === 429 ? "rate_limited" : status >= 500 ? "internal_error" : "bad_request");
		this.requestId = body?.request_id ?? null;
		this.conversationId = body?.conversation_id ?? null;
		this.turn = body?.turn ?? null;
		this.retryAfter = retryAfter;
		this.retryAt = retryAfter === null ? null : Date.now() + retryAfter * 1000;
	}
}

// No answer at all: the network, or a server that is away.  late: it was waited for in vain.
export class Offline extends Error {
	constructor(late = false) {
		super("offline");
		this.code = "offline";
		this.late = late;
	}
}
