// node play.js CLIENT PORT [OPTIONS as JSON]: a job as JSON on stdin, what the client gave for it as JSON on stdout.
"use strict";

const SENDINGS_MAX = 20;
const ADAPTERS = {
  ioredis5: () => require("./ioredis")(require("ioredis5")),
  ioredis6: () => require("./ioredis")(require("ioredis6")),
  "node-redis5": () => require("./node_redis")(require("redis5")),
  "node-redis6": () => require("./node_redis")(require("redis6")),
  glide: () => require("./glide")(require("@valkey/valkey-glide")),
};

// A reply as JSON can say it.
function plain(value) {
  if (value instanceof Error) return { error: value.message };
  if (Buffer.isBuffer(value)) return value.toString();
  if (value instanceof Map) return Object.fromEntries([...value].map(([name, one]) => [name, plain(one)]));
  if (Array.isArray(value)) return value.map(plain);
  if (value !== null && typeof value === "object")
    return Object.fromEntries(Object.entries(value).map(([name, one]) => [name, plain(one)]));
  return value;
}

async function answer(client, words) {
  try {
    return plain(await client.call(words));
  } catch (error) {
    return plain(error);
  }
}

async function tell(client, commands) {
  const replies = [];
  const word = (one) => {
    if (typeof one === "string") return one;
    const reply = replies[one.reply];
    return String(one.part === null ? reply : reply[one.part]);
  };
  for (const words of commands) replies.push(await answer(client, words.map(word)));
  return replies;
}

async function batch(client, commands, transaction) {
  try {
    return plain(await client.batch(commands, transaction));
  } catch (error) {
    return plain(error);
  }
}

// Clients that all want the same at the same time.
async function crowd(connect, job) {
  const clients = await Promise.all(Array.from({ length: job.clients }, connect));
  const begun = await tell(clients[0], job.begins);
  const replies = await Promise.all(clients.map((client) => answer(client, job.command)));
  await Promise.all(clients.map((client) => client.close()));
  return { begun, replies };
}

// Through a proxy that ends the connection in place of a reply: sent until there is one, as a shop does.
async function lossy(connect, direct, job) {
  const begun = await tell(direct, job.begins);
  const client = await connect();
  const replies = [];
  for (const words of job.commands) {
    let reply;
    for (let sent = 0; sent < SENDINGS_MAX; sent += 1) {
      reply = await answer(client, words);
      if (Array.isArray(reply)) break;
    }
    replies.push(reply);
  }
  await client.close();
  return { begun, replies };
}

async function main() {
  const [name, port, options] = process.argv.slice(2);
  const chunks = [];
  for await (const chunk of process.stdin) chunks.push(chunk);
  const job = JSON.parse(Buffer.concat(chunks).toString());
  const adapter = ADAPTERS[name]();
  const connect = (to) => adapter(Number(to), JSON.parse(options ?? "{}"));
  const client = await connect(port);
  const done = { story: await tell(client, job.story) };
  done.pipeline = await batch(client, job.pipeline, false);
  done.transaction = await batch(client, job.transaction, true);
  done.spoiled = await batch(client, job.spoiled, true);
  done.after = await tell(client, [["KL.SEEK", "seats:600"], ["ECHO", "x"]]);
  done.crowd = await crowd(() => connect(port), job.crowd);
  if (job.lossy !== null) done.lossy = await lossy(() => connect(job.lossy.port), client, job.lossy);
  await client.close();
  process.stdout.write(`\n${JSON.stringify(done)}\n`, () => process.exit(0)); // behind what the client logged
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
