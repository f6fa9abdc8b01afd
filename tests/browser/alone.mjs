// The check page of a server without a proxy.
//
//   node alone.mjs RENDEZVOUSD

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";

import { check, conclude, host, start } from "./browser.mjs";
import { lines, picture } from "./page.mjs";

const [program] = process.argv.slice(2);
const browser = await start();

/** Starts a rendezvousd; its port and how to end it. */
async function alone(...flags) {
    const server = spawn(program, ["--listen", "127.0.0.1:0", ...flags], { stdio: ["ignore", "ignore", "pipe"] });
    for await (const line of createInterface(server.stderr)) {
        const [, port] = line.match(/ready on http:\/\/127\.0\.0\.1:(\d+)/) ?? [];
        if (port) return [port, () => server.kill()];
    }
    throw new Error("rendezvousd does not start");
}

await check("a quota that is used up has its own words", async () => {
    const [port, end] = await alone("--trusted-proxy", "none", "--create-burst", "2", "--create-rate", "1");
    const page = await browser.newPage();
    await page.goto(`http://127.0.0.1:${port}/rendezvous/check`);
    const seen = await lines(page);
    end();
    for (const title of ["MSC3886", "MSC4388", "Delegation"]) {
        const { grade, text, pre } = seen.find((line) => line.title === title);
        assert.equal(grade, "warn");
        assert.match(text, /^too many sessions from your address\. Check again in [1-9]\d* s\./, title);
        assert.match(pre, /X-Forwarded-For/);
    }
    await picture(page, "quota");
    await page.close();
});

await check("a report can be had where the clipboard is denied", async () => {
    const [port, end] = await alone();
    const page = await browser.newPage();
    // A name is not trusted as loopback addresses are: no clipboard.
    await page.goto(`http://${host}:${port}/rendezvous/check`);
    const seen = await lines(page);
    end();
    assert.equal(await page.evaluate(() => isSecureContext), false);
    await page.click("#copy");
    assert.match(await page.textContent("#copied"), /copy it from there/);
    const selected = await page.$eval("#report", (area) => area.value.slice(area.selectionStart, area.selectionEnd));
    assert.match(selected, /^rendezvousd \d+\.\d+\.\d+ at http:\/\/matrix/);
    for (const { word, title, text } of seen) assert.ok(selected.includes(`${word}: ${title}: ${text}`), title);
    // Addresses of sessions do not belong in an issue.
    assert.doesNotMatch(selected, /[A-Za-z0-9_-]{22}(?![A-Za-z0-9_-])/);
    await picture(page, "report");
    await page.close();
});

await browser.close();
conclude();
