/** The answers of one server: each knows the id of its request once somebody needs it, and whether the server drains. */
import { randomUUID } from 'node:crypto';
import { type IncomingMessage, type OutgoingHttpHeader, type OutgoingHttpHeaders, ServerResponse } from 'node:http';
import type { Origin } from '../../graphql/context.ts';

/** The answer to one request, and where what goes wrong with it comes from. */
export type Response = InstanceType<ReturnType<typeof makeResponseClass>>;

type Headers = OutgoingHttpHeaders | OutgoingHttpHeader[];

export function makeResponseClass(server: { readonly draining: boolean }) {
  return class Answer<Request extends IncomingMessage = IncomingMessage>
    extends ServerResponse<Request>
    implements Origin
  {
    private id: string | null = null;

    /** The client's own if it has one; made when it is first asked for, and told to the client while that is possible. */
    identify(): string {
      if (this.id === null) {
        this.id = readId(this.req.headers['x-request-id']) ?? randomUUID();
        if (!this.headersSent) this.setHeader('x-request-id', this.id);
      }
      return this.id;
    }

    get logFields(): { readonly requestId: string } {
      return { requestId: this.identify() };
    }

    override writeHead(status: number, reason?: string | Headers, headers?: Headers): this {
      // Whoever would ask again on this connection goes elsewhere.
      if (server.draining) this.setHeader('connection', 'close');
      return typeof reason === 'string' ? super.writeHead(status, reason, headers) : super.writeHead(status, reason);
    }
  };
}

/**
 * An answer that waits behind another one on its connection (pipelining) hears nothing from Node of the connection's end:
 * what it holds would be held for ever.
 */
export function closeWithSocket({ socket }: IncomingMessage, response: ServerResponse): void {
  const gone = (): void => {
    response.destroy();
    response.emit('close');
  };
  // One for each that waits, and as many as the client likes.
  socket.setMaxListeners(0).once('close', gone);
  response.once('socket', () => socket.off('close', gone));
}

/** An id that a client or a proxy chose: null where it is not fit to stand in a log line. */
export function readId(header: string | string[] | undefined): string | null {
  return typeof header === 'string' && /^[A-Za-z0-9._-]{1,64}$/.test(header) ? header : null;
}
