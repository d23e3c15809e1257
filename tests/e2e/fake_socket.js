// Runs in the page. `client` holds the reference client over sockets that the test speaks for.
async () => {
  const { Connection } = await import("./playground/connection.js");
  const { grown } = await import("./playground/conversation.js");

  class FakeSocket {
    constructor(url) {
      this.url = url;
      this.sent = [];
      this.isClosed = false;
      client.sockets.push(this);
    }
    send(text) {
      this.sent.push(JSON.parse(text));
    }
    close() {
      this.isClosed = true;
    }
  }

  const client = {
    grown,
    sockets: [],
    states: [],
    tickets: 0,
    ticketProblem: null,
    /** What the session's handlers were told, in order. */
    told: [],
    loads: [],
    outcomes: {},
    connection: new Connection({
      url: "ws://fake/api/v1/ws",
      getTicket: async () => {
        client.tickets += 1;
        if (client.ticketProblem) throw client.ticketProblem;
        return `ticket ${client.tickets}`;
      },
      WebSocket: FakeSocket,
    }),
    get socket() {
      return client.sockets.at(-1);
    },
    say(...frames) {
      for (const frame of frames) client.socket.onmessage({ data: JSON.stringify(frame) });
    },
    async open() {
      client.connection.open();
      await client.settle();
      client.say({ type: "ready", connection_id: "c", user: { id: "me", username: "me" } });
    },
    follow() {
      client.connection.follow("s", {
        load: () => new Promise((resolve, reject) => client.loads.push({ resolve, reject })),
        onLoaded: (loaded) => client.told.push(loaded),
        onEvent: ({ event_seq: seq, type }) => client.told.push(seq ?? type),
        onEnded: (reason) => client.told.push(reason),
      });
    },
    subscribed(recovered, last) {
      const session = { id: "s", participants: [] };
      client.say({ type: "subscribed", session_id: "s", session, recovered, last_event_seq: last, presence: [] });
    },
    event: (seq) => ({ type: "message.created", session_id: "s", event_seq: seq, data: {} }),
    typing: { type: "typing", session_id: "s", data: {} },
    send(clientId, content = "Hello") {
      client.connection.send("s", { client_id: clientId, content }).then(
        (message) => (client.outcomes[clientId] = message),
        (error) => (client.outcomes[clientId] = error.code ?? error.message),
      );
    },
    /** Let every promise that can go on, go on. */
    async settle() {
      for (let turn = 0; turn < 20; turn += 1) await Promise.resolve();
    },
  };
  client.connection.onState = ({ state, retryInMs }) => client.states.push({ state, retryInMs });
  window.client = client;
}
