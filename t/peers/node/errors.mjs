// A refusal or a failure, as the client is told of it.
export class ApiError extends Error {
	constructor(status, code, message, more = {}) {
		super(message);
		Object.assign(this, { status, code, more });
	}
}

// What the model is told of a call that cannot be done.
export class ToolError extends Error {}
