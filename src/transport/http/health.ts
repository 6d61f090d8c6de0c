/** Answers `/`, `/healthz`, `/readyz` and `/metrics`, for operators and load balancers. */
import type { IncomingMessage } from 'node:http';
import { send, sendJson } from '../request/reply.ts';
import type { Response } from '../request/response.ts';
import { pathOf } from '../request/target.ts';

export interface HealthOptions {
  readonly isDraining: () => boolean;
  /** What the server needs and does not have. Resolves within seconds. */
  readonly ready: () => Promise<{ readonly missing: readonly string[]; readonly degraded: readonly string[] }>;
  /** The page of the metrics, and its media type. */
  readonly metrics: () => Promise<{ readonly type: string; readonly text: string }>;
}

/** Returns false for any other path. */
export type HealthRoutes = (request: IncomingMessage, response: Response) => Promise<boolean>;

export function makeHealthRoutes({ isDraining, ready, metrics }: HealthOptions): HealthRoutes {
  return async (request, response) => {
    switch (pathOf(request)) {
      case '/':
        response.writeHead(302, { location: '/graphql' }).end();
        return true;
      case '/healthz':
        sendJson(response, 200, '{"status":"alive"}');
        return true;
      case '/readyz':
        await sendReadiness(response);
        return true;
      case '/metrics': {
        const { type, text } = await metrics();
        send(response, 200, type, text);
        return true;
      }
      default:
        return false;
    }
  };

  async function sendReadiness(response: Response): Promise<void> {
    if (isDraining()) {
      sendJson(response, 503, '{"status":"draining"}');
      return;
    }
    const { missing, degraded } = await ready();
    const lacking = degraded.length === 0 ? {} : { degraded };
    if (missing.length === 0) sendJson(response, 200, JSON.stringify({ status: 'ready', ...lacking }));
    else sendJson(response, 503, JSON.stringify({ status: 'not ready', missing, ...lacking }));
  }
}
