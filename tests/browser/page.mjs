// The check page, as a test reads and pictures it.

import assert from "node:assert/strict";

const pictures = new URL("../../target/browser/", import.meta.url).pathname;

/** Which pages are pictured in all ways; the others on a phone by day. */
const pictured = ["nginx-good", "nginx-hostile", "nginx-silent"];

/** The lines of the page once it is done. */
export async function lines(page) {
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

/** Pictures of the page on phone and desktop, by day and night. */
export async function picture(page, name) {
    const looks = [[360, "light"], [360, "dark"], [1280, "light"], [1280, "dark"]];
    for (const [width, scheme] of looks.slice(0, pictured.includes(name) ? 4 : 1)) {
        await page.emulateMedia({ colorScheme: scheme });
        await page.setViewportSize({ width, height: 800 });
        const wide = await page.evaluate(() => document.documentElement.scrollWidth > innerWidth);
        assert.ok(!wide, `wider than ${width}`);
        await page.screenshot({ path: `${pictures}${name}-${width}-${scheme}.png`, fullPage: true });
    }
}
