// Web clients of another origin: whole meetings with fetch, behind all proxies
// that let them, and with the SDKs of tests/sdk.
//
//   node clients.mjs HOMESERVER REDIRECTING NAME:VARIANT:PORT...
//
// Starts the homeservers on these ports.

import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { once } from "node:events";

import { build } from "esbuild";

import { check, conclude, host, start } from "./browser.mjs";
import * as homeservers from "./homeservers.mjs";

const here = new URL("./", import.meta.url).pathname;
const [homeserver, redirecting, ...proxies] = process.argv.slice(2);

/** Its cache takes the conditions out of polls; the check page says so. */
const hopeless = ["nginx:hostile"];

const bundle = await build({
    absWorkingDir: here,
    entryPoints: ["fetching.mjs", "msc4108.mjs", "msc3886.mjs"],
    alias: { "node:assert/strict": "./assert.mjs" },
    // Olm asks for these where it takes itself to be in node.
    external: ["fs", "path", "crypto"],
    define: { global: "globalThis" },
    bundle: true,
    format: "esm",
    outdir: "/",
    write: false,
    logLevel: "error",
});
const files = Object.fromEntries(bundle.outputFiles.map(({ path, contents }) => [path, contents]));
const wasm = {
    "/pkg/matrix_sdk_crypto_wasm_bg.wasm":
        "msc4108/node_modules/@matrix-org/matrix-sdk-crypto-wasm/pkg/matrix_sdk_crypto_wasm_bg.wasm",
    "/olm.wasm": "msc3886/node_modules/@matrix-org/olm/olm.wasm",
};
for (const [path, file] of Object.entries(wasm)) files[path] = readFileSync(`${here}../sdk/${file}`);
files["/"] = "<!doctype html><title>A web client</title>";

const types = { js: "text/javascript", wasm: "application/wasm", "/": "text/html" };
const site = createServer(({ url }, response) => {
    const file = files[url];
    const type = types[url.split(".").pop()];
    response.writeHead(file ? 200 : 404, type && { "Content-Type": type }).end(file);
});
site.listen(0, "127.0.0.1");
await once(site, "listening");

homeservers.start("homeserver", homeserver);
homeservers.start("redirecting", redirecting);
const browser = await start();
const context = await browser.newContext({ ignoreHTTPSErrors: true });
const origin = (proxy) => `https://${host}:${proxy.split(":")[2]}`;
const named = (name) => origin(proxies.find((proxy) => proxy.startsWith(name)));

/** Runs a bundle in a page of its own. */
async function inPage(script, settings) {
    const page = await context.newPage();
    await page.goto(`http://localhost:${site.address().port}/`);
    const said = await page.evaluate(
        async ([script, settings]) => (await import(script)).run(settings),
        [script, settings],
    );
    await page.close();
    return said;
}

const fit = proxies.filter((proxy) => !hopeless.some((name) => proxy.startsWith(name)));
const settings = { server: named("nginx:good:"), redirecting: named("nginx:redirecting:") };
// All at once: the SDKs poll once a second.
await Promise.all([
    ...fit.map((proxy) => check(`fetch, ${proxy}`, () => inPage("/fetching.js", { server: origin(proxy) }))),
    ...["/msc4108.js", "/msc3886.js"].map((script) => check(`matrix-js-sdk, ${script}`, () => inPage(script, settings))),
]);
await browser.close();
conclude();
