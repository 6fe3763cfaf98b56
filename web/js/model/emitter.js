// Who watches is told, at most once a frame however often something changes.

export class Emitter {
	#watchers = new Set();
	#due = false;

	watch(f) {
		this.#watchers.add(f);
		return () => this.#watchers.delete(f);
	}

	changed() {
		if (this.#due)
			return;
		this.#due = true;
		const tell = () => {
			this.#due = false;
			for (const f of this.#watchers)
				f(this);
		};
		// No frames are drawn in a tab that nobody sees.
		if (document.hidden)
			setTimeout(tell, 100);
		else
			requestAnimationFrame(tell);
	}
}
