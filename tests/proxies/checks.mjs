// Checks behind several proxies: a line for each, how many held, and what the
// server behind them has counted.

import assert from "node:assert/strict";
import { once } from "node:events";
import { get } from "node:http";

import { Device } from "./client.mjs";

/** The proxies of a command line, `name:variant:port` each, with devices that have addresses of their own. */
export const proxiesOf = (arguments_) =>
    arguments_.map((argument, at) => {
        const [name, variant, port] = argument.split(":");
        const device = (number) => new Device(Number(port), `198.18.${at + 1}.${number}`);
        return { title: `${name} ${variant}`, variant, device };
    });

let [held, failed] = [0, 0];

/** Runs a check behind one proxy, closes its devices and prints a line. */
export async function line(proxy, what, run) {
    const devices = [];
    const device = (number) => {
        devices.push(proxy.device(number));
        return devices.at(-1);
    };
    try {
        const said = await run({ ...proxy, device });
        console.log(`ok     ${proxy.title.padEnd(16)} ${what}${said ? `: ${said}` : ""}`);
        held++;
    } catch (error) {
        console.log(`FAILED ${proxy.title.padEnd(16)} ${what}: ${error.stack}`);
        failed++;
    }
    devices.forEach((device) => device.close());
}

/** Says how many checks held, and ends. */
export function conclude(checks) {
    console.log(`${held} ${checks} held, ${failed} failed`);
    process.exit(failed ? 1 : 0);
}

/** The value of a series, from the admin socket in a directory. */
export async function metric(directory, series) {
    const [answer] = await once(get({ socketPath: `${directory}/admin`, path: "/metrics" }), "response");
    const text = (await answer.toArray()).join("");
    const found = text.split("\n").find((line) => line.startsWith(`${series} `));
    assert.ok(found, series);
    return Number(found.split(" ")[1]);
}
