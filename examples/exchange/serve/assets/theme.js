// Before anything is drawn: that scripts run, and which theme was chosen. Without a choice it is the system's.

document.documentElement.classList.add("scripted");
let theme = new URLSearchParams(location.search).get("theme");
try {
  theme ??= localStorage.getItem("exchange.theme");
} catch {
  // a private window
}
if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
