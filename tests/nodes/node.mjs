// A node: rendezvousd with a socket that outlives its restarts.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync } from "node:fs";
import { request } from "node:http";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";

import { metric } from "../proxies/checks.mjs";

const port = 8090;

export class Node {
    /** The log's lines so far, of all runs. */
    log = [];

    constructor(directory, program, network, number) {
        this.name = "abc"[number - 1];
        this.address = `${network}.${number}`;
        this.directory = `${directory}/${this.address}`;
        mkdirSync(this.directory, { recursive: true });
        this.command = [program, "--node", this.name, "--trusted-proxy", `${network}.0/24`].concat(
            ["--admin", `unix:${this.directory}/admin`, "--state-file", `${this.directory}/state`],
            ["--drain", "8s", "--log-level", "warn"],
        );
        process.on("exit", () => this.unit?.kill("SIGUSR1"));
    }

    async start() {
        // It lives still if a check has failed before it was to die.
        if (this.unit) await this.kill();
        const unit = new URL("unit.py", import.meta.url).pathname;
        const stdio = ["ignore", "pipe", "pipe"];
        this.unit = spawn("python3", [unit, this.address, port, ...this.command], { stdio });
        this.ended = once(this.unit, "exit");
        this.starts = createInterface(this.unit.stdout);
        createInterface(this.unit.stderr).on("line", (line) => this.log.push(line));
        await this.untilHealthy();
    }

    /** The status of the balancers' health check. */
    async health() {
        const asked = request({ host: this.address, port, method: "OPTIONS", path: "*", agent: false });
        asked.on("error", () => {});
        const [answer] = await once(asked.end(), "response");
        answer.resume();
        return answer.statusCode;
    }

    async untilHealthy() {
        for (let tries = 0; tries < 100 && this.unit.exitCode === null; tries++) {
            if ((await this.health().catch(() => 0)) === 204) return;
            await sleep(100);
        }
        throw new Error(`node ${this.name} does not start:\n${this.log.join("\n")}`);
    }

    /** Restarts as systemctl does; the statuses of the health check meanwhile. */
    async restart() {
        const started = once(this.starts, "line").then(() => true);
        const seen = new Set();
        this.unit.kill("SIGHUP");
        while (!(await Promise.race([started, sleep(200, false)]))) {
            seen.add(await this.health().catch(() => "closed"));
        }
        await this.untilHealthy();
        return [...seen];
    }

    /** What a crash does, with nobody who restarts it. */
    async kill() {
        this.unit.kill("SIGUSR1");
        await this.ended;
    }

    async stop() {
        this.unit.kill("SIGTERM");
        return this.ended;
    }

    metric(series) {
        return metric(this.directory, series);
    }
}
