// Builds client.js from src, or with --check says whether it is what src builds.

import { build } from "esbuild";
import { readFile, writeFile } from "node:fs/promises";
import { gzipSync } from "node:zlib";

const here = (name) => new URL(name, import.meta.url);

const banner = `// levada live client, Apache-2.0. Contains the core of idiomorph 0.8.0, 0BSD, by the authors of idiomorph.`;

// What a live page never asks of idiomorph, by function: merging heads, parsing strings, defaults, and the values
// of fields, which src/patch.ts takes care of. A function that is not found is an error, as is one found twice.
const cuts = {
  withHeadBlocking: "return callback(ctx);",
  handleHeadElement: "",
  normalizeElement: "return content;",
  normalizeParent: "return new SlicedParentNode(newContent);",
  parseContent: "",
  mergeDefaults: "return config;",
  syncInputValue: "",
  ignoreAttribute: "",
  ignoreValueOfActiveElement: "",
  syncBooleanAttribute: "",
};

// Statements that go with them, by their text.
const texts = [
  [/if \(is\.headElement\(oldNode\) && ctx\.head\.style === "none"\) \{[^]*?\} else \{\n(\s+morphAttributes[^]*?)\n {6}\}\n/, "{\n$1\n}\n"],
  [/if \(!\["innerHTML", "outerHTML"\][^]*?(?=const doc =)/, ""],
  [/head: mergedConfig\.head,/, ""],
  [/const defaults = \{[^]*?\n {2}\};\n/, ""],
  [/\n {4}morph,\n {4}defaults,\n/, "morph"],
  [/\/\*\* @type \{WeakSet<Node>\} \*\/\n\s+const generatedByIdiomorph = new WeakSet\(\);/, ""],
  [/if \(ctx\.morphStyle === "innerHTML"\) \{[^]*?\} else \{([^]*?)\}\n/, "$1"],
  [/if \(ctx\.ignoreActive && [^]*?\n {6}\}\n/, ""],
];

const core = {
  name: "core of idiomorph",
  setup(to) {
    to.onLoad({ filter: /idiomorph\.esm\.js$/ }, async ({ path }) => {
      let code = (await readFile(path, "utf8")).replace(/\/\*\*[^]*?\*\//g, (text) => (text.includes("@type {WeakSet") ? text : ""));
      const cut = (from, to) => {
        const found = code.match(new RegExp(from, "g"))?.length;
        if (found !== 1) throw new Error(`idiomorph has changed: ${from} is there ${found ?? 0} times`);
        code = code.replace(from, to);
      };
      for (const [name, body] of Object.entries(cuts))
        cut(new RegExp(`(\\n *)(function ${name}\\([^)]*\\)) \\{[^]*?\\1\\}`), `$1$2 { ${body} }`);
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
  banner: { js: banner },
  plugins: [core],
  write: false,
});
const code = outputFiles[0].text;
const file = here("client.js");
if (process.argv.includes("--check")) {
  if ((await readFile(file, "utf8")) !== code) {
    console.error("client.js is not what src builds: npm run build");
    process.exit(1);
  }
} else await writeFile(file, code);
console.log(`client.js: ${code.length} bytes, ${gzipSync(code, { level: 9 }).length} gzipped`);
