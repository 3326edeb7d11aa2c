// ioredis: it connects and comes back by itself.
"use strict";

module.exports = (Redis) => async (port, options) => {
  const client = new Redis({ port, ...options });
  client.on("error", () => {}); // the ends of connections behind the proxy: without this it prints them
  return {
    call: ([name, ...words]) => client.call(name, ...words),
    batch: async (commands, transaction) => {
      const calls = commands.map((words) => ["call", ...words]);
      const replies = await (transaction ? client.multi(calls) : client.pipeline(calls)).exec();
      return replies.map(([error, reply]) => error ?? reply);
    },
    close: async () => client.disconnect(),
  };
};
