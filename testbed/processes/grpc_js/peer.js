// Calls an echo with grpc-js: `node peer.js ADDRESS [CA KEY CERT]`; prints one line of JSON.
const fs = require("node:fs");
const grpc = require("@grpc/grpc-js");

const [address, ca, key, cert] = process.argv.slice(2);
const credentials = ca
  ? grpc.credentials.createSsl(...[ca, key, cert].map((file) => fs.readFileSync(file)))
  : grpc.credentials.createInsecure();
const bytes = (value) => value;
const client = new grpc.Client(address, credentials, {
  "grpc.ssl_target_name_override": "localhost",
});

const answers = [];
const call = client.makeBidiStreamRequest("/t.S/Doubled", bytes, bytes);
const sizes = [0, 1, 70_000, 1_000_000];
call.on("data", (message) => {
  answers.push(message.length);
  if (answers.length === sizes.length) call.end();
});
call.on("error", () => {});
call.on("status", (status) => {
  client.makeUnaryRequest("/t.S/Refusing", bytes, bytes, Buffer.alloc(3), (error) => {
    client.close();
    console.log(
      JSON.stringify({ answers, code: status.code, refusal: error.code, text: error.details }),
    );
  });
});
for (const size of sizes) call.write(Buffer.alloc(size));
