import { Login, Reciprocate, meet, prepare } from "../sdk/msc4108/meeting.mjs";

const path = "/_matrix/client/unstable/org.matrix.msc4108/rendezvous";

/** Both intents, at a server and by way of one that redirects. */
export async function run({ server, redirecting }) {
    await prepare();
    const meetings = [
        meet("login", Login, server + path),
        meet("reciprocate by a 307", Reciprocate, redirecting + path),
    ];
    return (await Promise.all(meetings)).join("; ");
}
