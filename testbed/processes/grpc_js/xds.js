// Calls a service over xDS with grpc-js: `node xds.js SERVICE METHOD`, its bootstrap in GRPC_XDS_BOOTSTRAP_CONFIG.
// Each line on standard input is a number of calls to make, each line on standard output what they came to.
const readline = require("node:readline");
const grpc = require("@grpc/grpc-js");
require("@grpc/grpc-js-xds").register();

const [service, method] = process.argv.slice(2);
const bytes = (value) => value;
const client = new grpc.Client(`xds:///${service}`, grpc.credentials.createInsecure());
const ask = () =>
  new Promise((resolve) => {
    const deadline = Date.now() + 20_000;
    client.makeUnaryRequest(method, bytes, bytes, Buffer.alloc(0), new grpc.Metadata(), { deadline }, (error, answer) =>
      resolve(error ? `${grpc.status[error.code]}: ${error.details}` : answer.toString()));
  });
(async () => {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const answers = {};
    for (let left = Number(line); left > 0; left--) {
      const answer = await ask();
      answers[answer] = (answers[answer] ?? 0) + 1;
    }
    console.log(JSON.stringify(answers));
  }
  process.exit(0);
})();
