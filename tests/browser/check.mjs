// What the check page finds behind proxies, and whether what it advises helps.
//
//   node check.mjs ADVICE HOMESERVER SILENT REDIRECTING NAME:VARIANT:PORT...
//
// Starts the homeservers on these ports. For every page that finds something
// the lines it shows are written to ADVICE/NAME-VARIANT.

import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";

import { check, conclude, host, start } from "./browser.mjs";
import * as homeservers from "./homeservers.mjs";

const [advice, homeserver, silent, redirecting, ...proxies] = process.argv.slice(2);
const pictures = new URL("../../target/browser/", import.meta.url).pathname;

/** Which pages are pictured in all ways; the others on a phone by day. */
const pictured = ["nginx-good", "nginx-hostile", "nginx-silent"];

const titles = [
    "Reachable", "Web clients", "Address", "Create", "Read", "Poll", "Write", "Stale write", "Caches", "Cancel",
    "ETag", "Compression", "Clocks", "Time per request", "MSC3886", "MSC4388", "MSC4388, discovery",
    "Advertisement", "Delegation", "Sign-in",
];

/**
 * What is not good behind which proxy: how bad, what is said, and a line of
 * what is shown for that proxy.
 */
const found = {
    "nginx hostile": {
        Poll: ["bad", /200/, /proxy_cache off;/],
        ETag: ["warn", /"([0-9a-f]{16})" became W\/"\1"\. rendezvousd undoes that/, /gzip off;/],
        Compression: ["warn", /gzip/, /gzip off;/],
        MSC3886: ["bad", /^Poll: .*200/, /proxy_cache off;/],
    },
    "caddy hostile": { Compression: ["warn", /zstd|gzip/, /encode @others/] },
    "apache hostile": {
        ETag: ["warn", /"([0-9a-f]{16})" became "\1-(gzip|br)"\. rendezvousd undoes that/, /no-gzip no-brotli/],
        Compression: ["warn", /br|gzip/, /no-gzip no-brotli/],
    },
    "nginx shares": {
        "Web clients": ["bad", /Allow-Origin is “\*, \*”/, /add_header X-Rendezvous/],
        Advertisement: ["bad", /no homeserver answers web clients/],
        "Sign-in": ["bad", /no device authorization grant/],
    },
    "nginx hides": { "Web clients": ["bad", /ETag, Location, X-Max-Bytes: .* is “”/, /add_header/] },
    "nginx deaf": { "Web clients": ["bad", /may not write: OPTIONS gives 403/, /add_header/] },
    "nginx charset": { Read: ["bad", /text\/plain became text\/plain; charset=utf-8/, /charset off;/] },
    "nginx expires": {
        Caches: ["warn", /Cache-Control became “.*max-age=3600/, /expires off;/],
        Clocks: ["warn", /Expires is 3\d\d\d s after Date/, /expires off;/],
        MSC3886: ["warn", /Cache-Control/, /expires off;/],
    },
    "nginx errors": {
        Cancel: ["bad", /no answer that a web client may read/, /proxy_intercept_errors off;/],
        MSC3886: ["bad", /^Cancel: no answer/, /proxy_intercept_errors off;/],
        MSC4388: ["bad", /^Read again: no answer/, /add_header X-Rendezvous/],
    },
    "nginx caches": {
        Caches: ["bad", /older message/, /proxy_cache off;/],
        Cancel: ["bad", /200 .*instead of 404/, /proxy_cache off;/],
        MSC3886: ["bad", /^Caches: .*older/, /proxy_cache off;/],
        MSC4388: ["bad", /^Caches: .*older/, /proxy_cache off;/],
    },
    "nginx nameless": { Address: ["bad", /told http:\/\/127\.0\.0\.1:\d+, without TLS/, /X-Forwarded-Host/] },
    "nginx silent": {
        MSC4388: ["bad", /404 M_UNRECOGNIZED/, /location ~/],
        "MSC4388, discovery": ["warn", /io\.element\.msc4388/, /location ~/],
        Advertisement: ["bad", /no org\.matrix\.msc4108/, /msc4108_delegation_endpoint: "https:\/\/matrix/],
        Delegation: ["bad", /gets 404/, /msc4108_delegation_endpoint: "https:\/\/matrix.*\/rendezvous"/],
        "Sign-in": ["bad", /no device authorization grant/],
    },
};

/** The lines of the page once it is done. */
async function lines(page) {
    await page.waitForFunction(() => !document.getElementById("again").disabled && document.querySelector("li"), null, {
        timeout: 60_000,
    });
    const seen = await page.$$eval("li", (items) =>
        items.map((item) => ({
            grade: item.className,
            word: item.querySelector("b").textContent,
            title: item.querySelector("strong").textContent.replace(":", ""),
            text: [...item.childNodes].filter((node) => node.nodeType === 3).map((node) => node.data).join("").trim(),
            change: item.querySelector("p")?.textContent,
            pre: item.querySelector("pre")?.textContent ?? "",
        })),
    );
    for (const line of seen.filter(({ change }) => change?.endsWith(" See above."))) {
        line.change = line.change.replace(" See above.", "");
        line.pre = seen.find(({ change }) => change === line.change).pre;
    }
    return seen;
}

const words = { ok: "Good", warn: "Improve", bad: "Broken", skip: "Not checked" };

/** Compares what was found with what is expected; what is not named is good. */
function compare(seen, expected) {
    assert.deepEqual(seen.map(({ title }) => title), titles);
    for (const { grade, word, title, text, change, pre } of seen) {
        const [wanted, says = /./, shows] = expected[title] ?? ["ok"];
        assert.equal(grade, wanted, `${title}: ${text}`);
        assert.equal(word, words[grade]);
        assert.match(text, says, title);
        if (shows) assert.match(pre, shows, title);
        assert.equal(Boolean(change), Boolean(shows), title);
    }
}

/** Pictures of the page on phone and desktop, by day and night. */
async function picture(page, name) {
    for (const [width, scheme] of [[360, "light"], [1280, "dark"], [360, "dark"], [1280, "light"]].slice(0, pictured.includes(name) ? 4 : 1)) {
        await page.emulateMedia({ colorScheme: scheme });
        await page.setViewportSize({ width, height: 800 });
        const wide = await page.evaluate(() => document.documentElement.scrollWidth > innerWidth);
        assert.ok(!wide, `wider than ${width}`);
        await page.screenshot({ path: `${pictures}${name}-${width}-${scheme}.png`, fullPage: true });
    }
}

for (const [kind, port] of Object.entries({ homeserver, silent, redirecting })) homeservers.start(kind, port);
const browser = await start();

for (const proxy of proxies) {
    const [name, variant, port] = proxy.split(":");
    await check(`${name} ${variant}`, async () => {
        const page = await browser.newPage({ ignoreHTTPSErrors: true });
        const errors = [];
        page.on("pageerror", (error) => errors.push(error));
        await page.goto(`https://${host}:${port}/rendezvous/check`);
        const seen = await lines(page);
        const pre = [...new Set(seen.map((line) => line.pre).filter(Boolean))];
        if (pre.length) writeFileSync(`${advice}/${name}-${variant}`, pre.join("\n") + "\n");
        await picture(page, `${name}-${variant}`);
        assert.deepEqual(errors, []);
        compare(seen, found[`${name} ${variant}`] ?? {});
        const summary = await page.textContent("#summary");
        await page.close();
        return summary;
    });
}
await browser.close();
conclude();
