/** How much one may ask. Each limit has a clear error where it is checked. */
export const LIMITS = {
  /** Bytes of an HTTP request body. */
  bodyBytes: 1_000_000,
  /** Bytes of a larger body that are read and dropped, so that whoever sends it gets to read why. */
  droppedBytes: 8_000_000,
  /** Bytes of a WebSocket message. */
  messageBytes: 64 * 1024,
  /** Characters of an operation id, which the client chooses. */
  operationIdLength: 128,
  /** Operations that run at once on one WebSocket connection. */
  operationsPerConnection: 100,
  /** Lexical tokens of a document. */
  documentTokens: 2_000,
  /** Levels of nested fields. */
  documentDepth: 12,
  /** Fields of a document with its fragments spread out. */
  documentFields: 1_000,
  /** Fields that one look at the schema counts as: its answer is that long, whatever it selects. */
  introspectionFields: 200,
  /** Cost of an operation that is not ready to run, or takes the long way: it is read, checked and answered with care. */
  unusualCost: 50,
  /** Cost of a poll over plain HTTP, answered from bytes that are there. */
  plainCost: 1,
  /** Mutation fields of one document. */
  mutationFields: 10,
  /** Ballots that wait for their batch; beyond, a vote is refused at once (V9). */
  waitingBallots: 20_000,
  /** Milliseconds that a long poll may wait. */
  waitMs: 30_000,
  /** Milliseconds for the first message of a WebSocket connection; raised from 3 s, or a reconnect storm feeds itself. */
  connectionInitMs: 15_000,
  /** Milliseconds in which a request's head must be here. */
  headersMs: 20_000,
  /** Milliseconds in which all of a request must be here. What is answered may take as long as it likes. */
  requestMs: 30_000,
  /** TCP connections from one address for each that CONNECTION_LIMIT allows to stay open: browsers keep some in reserve. */
  socketsPerConnection: 4,
} as const;
