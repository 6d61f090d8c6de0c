import type { ServerResponse } from 'node:http';

export function send(response: ServerResponse, status: number, type: string, body: string | Buffer): void {
  response.writeHead(status, { 'content-type': type, 'content-length': Buffer.byteLength(body) }).end(body);
}

/** Not for what is answered by the thousand: each header is felt there. */
export function sendJson(response: ServerResponse, status: number, text: string): void {
  response.setHeader('x-content-type-options', 'nosniff');
  send(response, status, 'application/json; charset=utf-8', text);
}

export function sendError(response: ServerResponse, status: number, message: string): void {
  sendJson(response, status, JSON.stringify({ errors: [{ message }] }));
}
