// Light or dark theme: follows the system until the user switches it.

const root = document.documentElement;
const systemDark = matchMedia("(prefers-color-scheme: dark)");
const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : systemDark.matches);

function showTheme() {
  document.getElementById("theme").querySelector("span").textContent = isDark() ? "Light" : "Dark";
}

function toggleTheme() {
  root.dataset.theme = isDark() ? "light" : "dark";
  showTheme();
}

document.getElementById("theme").addEventListener("click", toggleTheme);
systemDark.addEventListener("change", showTheme);
showTheme();
