// The check page, as a test reads and pictures it.

import assert from "node:assert/strict";

const pictures = new URL("../../target/browser/", import.meta.url).pathname;

/** Which pages are pictured in all ways; the others on a phone by day. */
const pictured = ["nginx-good", "nginx-hostile", "nginx-silent"];

const elsewhere = " See above.";

/**
 * The lines of the page once it is done, with what it shows for this proxy if
 * none has been recognized.
 */
export async function lines(page, proxy) {
    await page.waitForFunction(() => !document.getElementById("again").disabled && document.querySelector("li"), null, {
        timeout: 60_000,
    });
    if (proxy && (await page.isVisible("#proxy")) && !(await page.inputValue("#proxy")))
        await page.selectOption("#proxy", proxy);
    const seen = await page.$$eval("li", (items) =>
        items.map((item) => ({
            grade: item.className,
            word: item.querySelector("b")?.textContent.replace(":", "") ?? "Good",
            title: item.querySelector("strong").textContent.replace(/:$/, ""),
            text: [...item.childNodes].filter((node) => node.nodeType === 3).map((node) => node.data).join("").trim(),
            change: item.querySelector("p")?.textContent,
            pre: [...item.querySelectorAll("pre")].map((pre) => pre.textContent).join(""),
            marks: [...item.querySelectorAll("mark")].map((mark) => mark.textContent),
            folded: Boolean(item.closest("#passed")),
        })),
    );
    for (const line of seen.filter(({ change }) => change?.endsWith(elsewhere))) {
        line.change = line.change.replace(elsewhere, "");
        const { pre, marks } = seen.find(({ change, pre }) => pre && change === line.change) ?? line;
        Object.assign(line, { pre, marks });
    }
    // What is bad comes first and shows the change, what is good is folded.
    const order = seen.map(({ grade }) => ["bad", "warn", "skip", "ok"].indexOf(grade));
    assert.deepEqual(order, order.toSorted());
    for (const { grade, folded, title } of seen) assert.equal(folded, grade === "ok", title);
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
