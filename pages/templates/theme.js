// Light and dark: as the system has it, until the button or a key that calls toggleTheme says otherwise.

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
