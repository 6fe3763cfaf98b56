// localStorage where it may be used, memory where not (private windows, blocked storage).

const memory = new Map();

export function get(name, fallback = null) {
	try {
		const text = localStorage.getItem(`parley.${name}`);
		return text === null ? fallback : JSON.parse(text);
	} catch {
		return memory.has(name) ? memory.get(name) : fallback;
	}
}

export function set(name, value) {
	memory.set(name, value);
	try {
		if (value === null)
			localStorage.removeItem(`parley.${name}`);
		else
			localStorage.setItem(`parley.${name}`, JSON.stringify(value));
	} catch {
		// Full or forbidden: it lives as long as the tab.
	}
	if (value === null)
		memory.delete(name);
}
