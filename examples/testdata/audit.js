// What is wrong with the page for those who see, point or listen: a list of sentences.
(() => {
  const wrong = [];
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const over = (a, b) => [0, 1, 2].map((i) => a[i] * a[3] + b[i] * (1 - a[3]));
  const luminance = (colour) => {
    const [r, g, b] = colour.map((v) => ((v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (el) => {
    const layers = [];
    for (; el; el = el.parentElement) layers.unshift(rgba(getComputedStyle(el).backgroundColor));
    const canvasColour = matchMedia("(prefers-color-scheme: dark)").matches ? [18, 18, 18] : [255, 255, 255];
    return layers.reduce((below, layer) => over(layer, below), canvasColour);
  };
  const told = (el) => `${el.localName}${el.id && "#" + el.getAttribute("id")} ${JSON.stringify(el.textContent.trim().slice(0, 30))}`;

  // WCAG 2.2, 1.4.3: 4.5 to 1, for large letters 3 to 1. What is disabled or decoration is left alone.
  const reads = (el, colour, what) => {
    const style = getComputedStyle(el);
    if (!el.getBoundingClientRect().width || style.visibility === "hidden") return;
    if (el.closest(":disabled, [aria-disabled=true], [aria-hidden=true], [hidden], option, noscript")) return;
    let opacity = 1;
    for (let e = el; e; e = e.parentElement) opacity *= getComputedStyle(e).opacity;
    if (opacity < 0.05) return; // not there
    const ground = behind(el);
    const [r, g, b, a] = rgba(colour);
    const [light, dark] = [over([r, g, b, a * opacity], ground), ground].map(luminance).sort((x, y) => y - x);
    const ratio = (light + 0.05) / (dark + 0.05);
    const size = parseFloat(style.fontSize);
    const isLarge = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
    if (ratio < (isLarge ? 3 : 4.5)) wrong.push(`${what} of ${told(el)} has a contrast of ${ratio.toFixed(2)}`);
  };
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode())
    if (texts.currentNode.data.trim()) {
      const el = texts.currentNode.parentElement;
      if (!/^(script|style)$/.test(el.localName)) reads(el, getComputedStyle(el).color, "text");
    }
  for (const field of document.querySelectorAll("[placeholder]")) reads(field, getComputedStyle(field, "::placeholder").color, "placeholder");

  // 2.5.8: 24 by 24 pixels to point at, but for links in a text.
  const controls = document.querySelectorAll("a[href], button, input:not([type=hidden]), select, textarea, summary");
  for (const el of controls) {
    const { width, height } = (el.closest("label") || el).getBoundingClientRect();
    if (!width || el.closest("[hidden], p, footer, .skip, .text")) continue;
    if (width < 24 || height < 24) wrong.push(`${told(el)} is ${Math.round(width)} by ${Math.round(height)} pixels`);
  }
  // 4.1.2: what can be used has a name.
  for (const el of controls)
    if (!(el.labels?.length || el.getAttribute("aria-label") || el.textContent.trim() || el.title)) wrong.push(`${told(el)} has no name`);

  const count = (selector) => document.querySelectorAll(selector).length;
  if (count("h1") !== 1) wrong.push(`there are ${count("h1")} headings of the first level`);
  if (count("main") !== 1) wrong.push(`there are ${count("main")} main parts`);
  if (!document.title) wrong.push("there is no title");
  if (!document.documentElement.lang) wrong.push("there is no language");
  if (!count("link[rel~=icon]")) wrong.push("there is no icon");
  if (document.documentElement.scrollWidth > innerWidth) wrong.push(`the page is ${document.documentElement.scrollWidth} pixels wide in ${innerWidth}`);
  return wrong;
})()
