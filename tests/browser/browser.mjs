// Chromium, as an operator or a user has it.

import { chromium } from "playwright-core";

/** The public name of the proxies of tests/proxies. */
export const host = "matrix.example.org";

const flags = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-proxy-server",
    `--host-resolver-rules=MAP ${host} 127.0.0.1`,
];

export const start = () => chromium.launch({ executablePath: "/usr/bin/chromium", args: flags });

let [held, failed] = [0, 0];

/** Runs a check; one line a check. */
export async function check(what, run) {
    try {
        const said = await run();
        console.log(`ok     ${what}${said ? `: ${said}` : ""}`);
        held++;
    } catch (error) {
        console.log(`FAILED ${what}: ${error.stack}`);
        failed++;
    }
}

/** Says how many held; exits with a failure unless all did. */
export function conclude() {
    console.log(`${held} of ${held + failed} held`);
    process.exit(failed || !held ? 1 : 0);
}
