// All tests in one process, since loading jsdom takes longer than most of them.

import { readdirSync } from "node:fs";

for (const name of readdirSync(new URL(".", import.meta.url)).sort())
  if (name.endsWith(".test.mjs")) await import("./" + name);
