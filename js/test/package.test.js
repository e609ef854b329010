// What is published: small, typed, without dependencies.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { it } from "node:test";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";

const here = join(dirname(fileURLToPath(import.meta.url)), "..");
const tools = join(here, "../.cache/js/node_modules/.bin");
const options = { skip: !existsSync(tools) && "tools/setup.sh js was not run", timeout: 120_000 };
const run = (tool, ...args) => execFileSync(join(tools, tool), args, { cwd: here, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });

it("is at most 6 KiB, minified and compressed", options, () => {
  const small = run("esbuild", "guado.js", "--bundle", "--minify", "--format=esm", "--target=es2022");
  const size = gzipSync(small, { level: 9 }).length;
  assert.ok(size <= 6 * 1024, `${size} bytes`);
});

it("has the types that it says", options, () => {
  try {
    run("tsc", "-p", "jsconfig.json");
  } catch (e) {
    assert.fail(e.stdout);
  }
});

it("depends on nothing and publishes what it names", () => {
  const pack = JSON.parse(readFileSync(join(here, "package.json"), "utf8"));
  assert.equal(pack.dependencies, undefined);
  for (const file of ["guado.js", "carriers.js", "values.js"]) {
    assert.doesNotMatch(readFileSync(join(here, file), "utf8"), /^import\b(?!.* from "\.\/)|^ *[^ /*].*\bimport\(/m);
  }
  for (const file of ["guado.js", "README.md"]) assert.ok(existsSync(join(here, file)), file);
  const version = readFileSync(join(here, "../internal/version/version.go"), "utf8").match(/"(\d+\.\d+\.\d+)"/)?.[1];
  assert.equal(pack.version, version, "one version for all parts");
});
