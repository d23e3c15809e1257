// The browser's own choice of light or dark, also when it changes. It runs before the page is drawn.
const prefersDark = window.matchMedia("(prefers-color-scheme: dark)");
const applyScheme = () => document.documentElement.setAttribute("data-bs-theme", prefersDark.matches ? "dark" : "light");
applyScheme();
prefersDark.addEventListener("change", applyScheme);
