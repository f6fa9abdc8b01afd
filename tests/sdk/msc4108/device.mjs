// A device of matrix-js-sdk, driven by lines of JSON: commands on standard input,
// events on standard output. The client in tests/signin speaks the same.

import { writeSync } from "node:fs";
import { createInterface } from "node:readline";

import { QrCodeData, initAsync } from "@matrix-org/matrix-sdk-crypto-wasm";
import { logger } from "matrix-js-sdk/lib/logger.js";
import { createClient } from "matrix-js-sdk/lib/matrix.js";
import { OAuth2 } from "matrix-js-sdk/lib/oauth/index.js";
import {
    ClientRendezvousFailureReason,
    MSC4108RendezvousSession,
    MSC4108SecureChannel,
    MSC4108SignInWithQR,
    linkNewDeviceByGeneratingQR,
    signInByGeneratingQR,
} from "matrix-js-sdk/lib/rendezvous/index.js";

const CALLBACK = "https://client.example.org/callback";
const REGISTRATION = { client_uri: "https://client.example.org/", redirect_uris: [CALLBACK], application_type: "web" };
// A list of devices and their keys arrives with one of the first syncs.
const TOLD_WITHIN = 10_000;

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const say = (event) => writeSync(1, `${JSON.stringify(event)}\n`);
const pause = (ms) => new Promise((wake) => setTimeout(wake, ms));

async function heard() {
    const { value, done } = await lines.next();
    return done ? undefined : JSON.parse(value);
}

let homeserver;
let client;

/** The client of a device with a token, which has its keys but does not sync yet. */
async function signedIn(accessToken) {
    const whoami = await createClient({ baseUrl: homeserver, accessToken }).whoami();
    client = createClient({ baseUrl: homeserver, accessToken, userId: whoami.user_id, deviceId: whoami.device_id });
    await client.initRustCrypto({ useIndexedDB: false });
}

async function synced() {
    const first = new Promise((done) =>
        client.on("sync", (state) => {
            if (state === "PREPARED") done();
        }),
    );
    await client.startClient({ initialSyncLimit: 1 });
    await first;
}

/** Signs in by a browser, as an account's first device: with new keys and backup. */
async function first() {
    const metadata = await createClient({ baseUrl: homeserver }).getAuthMetadata();
    const clientId = await OAuth2.registerClient(metadata, REGISTRATION);
    const oauth = new OAuth2(metadata, { clientId });
    say({ event: "browse", url: await oauth.generateAuthorizationCodeGrantUrl("state", CALLBACK) });
    const back = new URLSearchParams(new URL((await heard()).callback).hash.slice(1));
    await signedIn((await oauth.completeAuthorizationCodeGrant(back.get("code"), CALLBACK)).access_token);
    await synced();
    const crypto = client.getCrypto();
    await crypto.bootstrapCrossSigning({ authUploadDeviceSigningKeys: (upload) => upload(null) });
    await crypto.resetKeyBackup();
    say({ event: "ready" });
}

const failed = (reason) => say({ event: "reason", reason });

/** Shows a code and takes the check code, as an app does. */
async function show(old) {
    const { signal } = new AbortController();
    const flow = old
        ? await linkNewDeviceByGeneratingQR(asUrl(client), failed, signal)
        : await signInByGeneratingQR(createClient({ baseUrl: homeserver }), failed, signal);
    say({ event: "code", code: [...flow.code] });
    await flow.negotiateProtocols();
    say({ event: "scanned" });
    if ((await heard()).check_code !== flow.checkCode) {
        await flow.cancel(ClientRendezvousFailureReason.InsecureChannelDetected);
        throw new Error("wrong check code");
    }
    await (old ? grant(flow) : login(flow));
}

async function scan(old, bytes) {
    const code = QrCodeData.fromBytes(Uint8Array.from(bytes));
    const session = new MSC4108RendezvousSession({ url: code.rendezvousUrl, onFailure: failed });
    const channel = new MSC4108SecureChannel(session, code.publicKey, failed);
    const flow = new MSC4108SignInWithQR(channel, true, old ? asUrl(client) : undefined, failed);
    await flow.negotiateProtocols();
    say({ event: "check_code", code: flow.checkCode });
    await (old ? grant(flow) : login(flow));
}

/**
 * A client that gives its homeserver's URL where this SDK gives a name: other
 * SDKs accept nothing else there.
 */
function asUrl(client) {
    return Object.create(client, { getDomain: { value: () => `${homeserver}/` } });
}

/** The old device's part once there is a channel. */
async function grant(flow) {
    const { verificationUri } = await flow.deviceAuthorizationGrant();
    say({ event: "consent", url: verificationUri });
    await flow.shareSecrets();
    say({ event: "done" });
}

/** The new device's. */
async function login(flow) {
    const metadata = await createClient({ baseUrl: homeserver }).getAuthMetadata();
    const clientId = await OAuth2.registerClient(metadata, REGISTRATION);
    const { deviceId } = new OAuth2(metadata, { clientId }).context;
    const { userCode } = await flow.deviceAuthorizationGrant({ metadata, clientId, deviceId });
    say({ event: "user_code", code: userCode });
    const token = await flow.completeLoginOnNewDevice({ clientId });
    await signedIn(token.access_token);
    const { secrets } = await flow.shareSecrets();
    await client.getCrypto().importSecretsBundle(secrets);
    say({ event: "done" });
    await flow.close();
    await synced();
    await client.getCrypto().checkKeyBackupAndEnable();
}

/** Whether a device of this account is verified, once a sync has told of its keys. */
async function verified(device) {
    const until = Date.now() + TOLD_WITHIN;
    for (;;) {
        const status = await client.getCrypto().getDeviceVerificationStatus(client.getUserId(), device);
        if (status?.crossSigningVerified && status.signedByOwner) return true;
        if (Date.now() > until) return false;
        await pause(50);
    }
}

/** Says who this device is, what it has and what it thinks of itself. */
async function report() {
    const { user_id: user, device_id: device } = await client.whoami();
    const crypto = client.getCrypto();
    const { privateKeysCachedLocally: keys } = await crypto.getCrossSigningStatus();
    const version = await crypto.getActiveSessionBackupVersion();
    say({
        event: "report",
        user,
        device,
        secrets: [keys.masterKey, keys.selfSigningKey, keys.userSigningKey],
        backup: version !== null && (await crypto.getSessionBackupPrivateKey()) !== null,
        verified: await verified(device),
    });
}

// The SDK asks for node 22; this is all that 20 lacks.
Promise.withResolvers ??= function () {
    let resolvers;
    const promise = new this((resolve, reject) => (resolvers = { resolve, reject }));
    return { promise, ...resolvers };
};
// Events only on standard output; what the SDK logs there goes elsewhere.
process.stdout.write = process.stderr.write.bind(process.stderr);
logger.setLevel?.("warn");
await initAsync();
for (let command = await heard(); command; command = await heard()) {
    homeserver = command.homeserver ?? homeserver;
    const old = command.as === "old";
    const actions = {
        first,
        show: () => show(old),
        scan: () => scan(old, command.code),
        report,
        trust: async () => say({ event: "trust", trusted: await verified(command.device) }),
    };
    await actions[command.do]().catch((error) => say({ event: "failed", reason: String(error) }));
}
process.exit();
