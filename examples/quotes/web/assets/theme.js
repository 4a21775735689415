// The theme is the system's, unless the reader has chosen. This runs before anything is shown.
(() => {
  const html = document.documentElement;
  const kept = () => {
    try {
      return localStorage.getItem("quotes:theme");
    } catch {
      return null; // storage may be forbidden
    }
  };
  if (kept()) html.dataset.theme = kept();
  addEventListener("click", (e) => {
    if (!e.target.closest?.("[data-theme-switch]")) return;
    const isDark = html.dataset.theme ? html.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    html.dataset.theme = isDark ? "light" : "dark";
    try {
      localStorage.setItem("quotes:theme", html.dataset.theme);
    } catch {
      // then it lasts as long as the page
    }
  });
})();
