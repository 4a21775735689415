// Links within the application, and the history of the browser.

import { attr, emit, isPlain, root } from "./page";
import { isConnected, send, wait } from "./socket";

const here = () => location.href.split("#")[0];

/** The URL that the server knows of, without its fragment. */
let known = here();

/** Scrolls to y, or else to where the fragment of the URL is, or to the top. */
export const scroll = (y?: number) => {
  const target = y === undefined && location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (target) target.scrollIntoView();
  else scrollTo(0, y || 0);
};

/** What the user followed last, by its ref. */
export let followed = 0;

/** Which view the entries of the history belong to that were made since it was shown. */
let view = history.state?.view;

/** The entries from here on belong to another view. */
export const turn = () => {
  view = Date.now();
};

/** Makes url that of the page. */
export const go = (url: string, isReplace: unknown) => {
  const to = new URL(url, location.href).href;
  history[isReplace || to === location.href ? "replaceState" : "pushState"]({ view }, "", to);
  known = here();
};

const follow = (kind: "patch" | "navigate", after: () => void) => {
  known = here();
  const done = () => {
    emit("page-loading-stop", { kind });
    after();
  };
  followed = send(kind[0], location.href);
  if (!followed) return; // the next join tells the URL
  emit("page-loading-start", { kind });
  wait(followed, done);
};

export const bind = () => {
  history.scrollRestoration = "manual";
  if (history.state?.live) scroll(history.state.live);
  let saving: ReturnType<typeof setTimeout>;
  const save = () => {
    clearTimeout(saving);
    history.replaceState({ ...history.state, live: scrollY }, "");
  };
  // What is left by going back cannot be asked where it stood.
  addEventListener("scroll", () => {
    clearTimeout(saving);
    saving = setTimeout(save, 100);
  });
  addEventListener("popstate", (e) => {
    clearTimeout(saving);
    const y = e.state?.live;
    const isPatch = e.state?.view === view;
    view = e.state?.view;
    if (here() === known && isPatch) scroll(y);
    else follow(isPatch ? "patch" : "navigate", () => scroll(y));
  });
  addEventListener("click", (e) => {
    const link = (e.target as Element).closest?.<HTMLAnchorElement>("a[live-patch],a[live-navigate]");
    if (!link || !root.contains(link) || e.defaultPrevented || !isConnected() || !isPlain(e)) return;
    if (link.origin !== location.origin || (link.target && link.target !== "_self") || link.hasAttribute("download")) return;
    e.preventDefault();
    save();
    const isPatch = attr(link, "patch") !== null;
    if (!isPatch) turn();
    go(link.href, false);
    follow(isPatch ? "patch" : "navigate", () => (isPatch && !location.hash) || scroll());
  });
};
