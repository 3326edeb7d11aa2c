// node-redis: it must be told to connect, and wants someone to hear its errors. Commands that are sent without
// waiting for each other are a pipeline.
"use strict";

const settled = async (promises) =>
  (await Promise.allSettled(promises)).map(({ value, reason }) => reason ?? value);

module.exports = ({ createClient }) => async (port, options) => {
  const client = createClient({ socket: { port }, ...options });
  client.on("error", () => {});
  await client.connect();
  return {
    call: (words) => client.sendCommand(words),
    batch: async (commands, transaction) => {
      if (!transaction) return settled(commands.map((words) => client.sendCommand(words)));
      const multi = client.multi();
      for (const words of commands) multi.addCommand(words);
      try {
        return await multi.exec();
      } catch (error) {
        if (Array.isArray(error.replies)) return error.replies;
        throw error;
      }
    },
    close: () => client.close(),
  };
};
