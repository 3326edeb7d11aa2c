// valkey-glide: a core in Rust that several languages share. A map comes as [{ key, value }].
"use strict";

// As it comes it gives up after 250 ms: too soon for KL.VERIFY, and for a durable write when the disk is busy.
const REQUEST_TIMEOUT_MS = 20_000;

module.exports = ({ GlideClient, Batch }) => async (port) => {
  const addresses = [{ host: "127.0.0.1", port }];
  const asItComes = await GlideClient.createClient({ addresses });
  if ((await asItComes.ping()) !== "PONG") throw new Error("no PONG");
  asItComes.close();
  const client = await GlideClient.createClient({ addresses, requestTimeout: REQUEST_TIMEOUT_MS });
  const isPair = (one) =>
    one !== null && typeof one === "object" && Object.keys(one).sort().join() === "key,value";
  const maps = (value) => {
    if (!Array.isArray(value)) return value;
    if (value.length > 0 && value.every(isPair))
      return Object.fromEntries(value.map(({ key, value: one }) => [key, maps(one)]));
    return value.map(maps);
  };
  return {
    call: async (words) => maps(await client.customCommand(words)),
    batch: async (commands, transaction) => {
      const batch = new Batch(transaction);
      for (const words of commands) batch.customCommand(words);
      return maps(await client.exec(batch, false));
    },
    close: async () => client.close(),
  };
};
