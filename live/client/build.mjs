// Builds client.js from src, or with --check says whether it is what src builds.

import { build } from "esbuild";
import { readFile, writeFile } from "node:fs/promises";
import { gzipSync } from "node:zlib";
import { minify } from "terser";

const here = (name) => new URL(name, import.meta.url);

const banner = "/* levada, Apache-2.0; idiomorph 0.8.0, 0BSD */";

// Of idiomorph only the matching of old nodes with new ones is taken. Merging of heads, parsing of strings, options,
// and the attributes and values of elements, which src/patch.ts takes care of, are cut out. The cuts are made in the
// source of exactly one version: a function or text that is not found once is an error.
const functions = {
  // Two elements that match are morphed in place; src/patch.ts replaces those that do not.
  morph: `
    const ctx = createMorphContext(oldNode, newContent, config);
    morphNode(oldNode, newContent, ctx);
    ctx.pantry.remove();`,
  createMorphContext: `
    return {
      target: oldNode,
      doc: document,
      pantry: createPantry(document),
      activeElementAndParents: createActiveElementAndParents(oldNode, document),
      ...createIdMaps(oldNode, newContent),
      ...config,
    };`,
  morphOuterHTML: null,
  saveAndRestoreFocus: null,
  mergeDefaults: null,
  morphAttributes: null,
  syncInputValue: null,
  syncBooleanAttribute: null,
  ignoreAttribute: null,
  ignoreValueOfActiveElement: null,
  moveBefore: null,
  withHeadBlocking: null,
  handleHeadElement: null,
};

const texts = [
  // head
  [/if \(is\.headElement\(oldNode\) [^]*? else \{\n(\s+)morphAttributes[^]*?\n {6}\}\n/, "morphChildren(ctx, oldNode, newContent);\n"],
  [/\w+: \(value\) => htmlElement\(value, "(head)"\),/, ""],
  [/element\(value\) &&\s+value\.localName === localName &&\s+value\.namespaceURI === "http:\/\/www.w3.org\/1999\/xhtml"/, "value?.localName === localName"],
  [/ctx\.callbacks\.beforeNodeMorphed/, "ctx.beforeNodeMorphed"],
  // strings and parents
  [/const \{ normalizeElement, normalizeParent \} = [^]*?\n {2}\}\)\(\);/, ""],
  [/newContent\.__idiomorphRoot \|\| newContent/, "newContent"],
  [/node: \(value\) =>[^]*?"number",/, ""],
  [/document: \(value\) =>[^]*?DOCUMENT_NODE,/, ""],
  [/value instanceof Element \|\| (value\?\.nodeType) === Node\.ELEMENT_NODE/, "$1 === 1"],
  [/moveBefore(\(ctx\.pantry, node, null\))/, "ctx.move$1"],
  [/moveBefore(\(parentNode, target, after\))/, "ctx.move$1"],
  // options
  [/const defaults = \{[^]*?\n {2}\};\n/, ""],
  [/const noOp = \(\) => \{\};/, ""],
  [/\n {4}morph,\n {4}defaults,\n/, "morph"],
  [/if \(ctx\.ignoreActive && [^]*?\n {6}\}\n/, ""],
  [/if \(ctx\.callbacks\.beforeNodeAdded\(newChild\) === false\) return null;/, ""],
  [/ctx\.callbacks\.afterNodeAdded\(newEmptyChild\);/, ""],
  [/ctx\.callbacks\.afterNodeAdded\(newClonedChild\);/, ""],
  [/ctx\.callbacks\.afterNodeMorphed\(oldNode, newContent\);/, ""],
  [/if \(ctx\.callbacks\.beforeNodeRemoved\(node\) === false\) return;/, ""],
  [/ctx\.callbacks\.afterNodeRemoved\(node\);/, ""],
  [/if \(duplicateIds\.size\) \{[^]*?\n {6}\}/, ""],
  [/if \(node === ctx\.pantry\) return;/, ""],
  // fields
  [/optionElement: \(value\) => htmlElement\(value, "option"\),/, ""],
  [/inputElement: \(value\) => htmlElement\(value, "input"\),/, ""],
  [/textAreaElement: \(value\) => htmlElement\(value, "textarea"\),/, ""],
];

const core = {
  name: "core of idiomorph",
  setup(to) {
    to.onLoad({ filter: /idiomorph\.esm\.js$/ }, async ({ path }) => {
      let code = (await readFile(path, "utf8")).replace(/\/\*\*[^]*?\*\//g, "");
      const cut = (from, to) => {
        const found = code.match(new RegExp(from, "g"))?.length ?? 0;
        if (found !== 1) throw new Error(`idiomorph has changed: ${from} is there ${found} times`);
        code = code.replace(from, to);
      };
      for (const [name, body] of Object.entries(functions))
        cut(new RegExp(`(\\n *)function (${name}\\([^)]*\\)) \\{[^]*?\\1\\}`), body === null ? "" : `$1function $2 {${body}}`);
      for (const [from, to] of texts) cut(from, to);
      return { contents: code };
    });
  },
};

const { outputFiles } = await build({
  entryPoints: [here("src/main.ts").pathname],
  bundle: true,
  minify: true,
  format: "iife",
  target: "es2020",
  charset: "utf8",
  legalComments: "none",
  // Names of idiomorph's, and ours that are in no object of a page.
  mangleProps: /^(activeElementAndParents|beforeNodeMorphed|idMap|pantry|persistentIds|elt|templateElement|element|undo|next|timer|run|up|row|scope|version|apply)$/,
  plugins: [core],
  write: false,
});
// Terser takes out a twentieth of what esbuild leaves.
const small = await minify(outputFiles[0].text, { ecma: 2020, compress: { passes: 3 }, format: { preamble: banner, comments: false } });
const code = small.code + "\n";
const file = here("client.js");
if (process.argv.includes("--check")) {
  if ((await readFile(file, "utf8")) !== code) {
    console.error("client.js is not what src builds: npm run build");
    process.exit(1);
  }
} else await writeFile(file, code);
console.log(`client.js: ${code.length} bytes, ${gzipSync(code, { level: 9 }).length} gzipped`);
