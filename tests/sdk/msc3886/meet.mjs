// Two devices of the last matrix-js-sdk that spoke MSC3886 meet over
// rendezvousd, at both of its paths.
//
//   node meet.mjs http://127.0.0.1:8090

import { Login, Reciprocate, meet, prepare } from "./meeting.mjs";

const server = process.argv[2];

await prepare();
console.log(await meet("login at the Matrix path", Login, server, true));
console.log(await meet("reciprocate at the prefix", Reciprocate, server, false));
