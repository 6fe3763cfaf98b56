// Loaded before anything is drawn, so no page flashes in the wrong colours.
// "system" follows the machine; the two others are what the person chose.
(() => {
	const dark = matchMedia("(prefers-color-scheme: dark)");
	let chosen = "system";

	try {
		chosen = localStorage.getItem("parley.theme") ?? "system";
	} catch {
		// Storage is forbidden here: the system's choice is good.
	}
	const apply = () => {
		const theme = chosen === "system" ? (dark.matches ? "dark" : "light") : chosen;
		document.documentElement.dataset.theme = theme;
		document.querySelector("meta[name=theme-color]")?.setAttribute("content", theme === "dark" ? "#14171a" : "#f6f4ef");
	};
	dark.addEventListener("change", apply);
	document.addEventListener("parley-theme", (event) => {
		chosen = event.detail;
		apply();
	});
	apply();
})();
