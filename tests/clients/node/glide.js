// valkey-glide: a core in Rust that several languages share. A map comes as [{ key, value }].
"use strict";

module.exports = ({ GlideClient, Batch }) => async (port) => {
  const addresses = [{ host: "127.0.0.1", port }];
  const client = await GlideClient.createClient({ addresses });
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
