/** Reads the target of a request: its path and its query. */
import type { IncomingMessage } from 'node:http';

const SLASH = 0x2f;
const ABSOLUTE = /^https?:\/\/([^/?#@]+)(.*)$/is;

/**
 * Turns a target in absolute form (`GET http://host/path`) into the usual form. The host in
 * the target then replaces the header `Host` (RFC 9112, 3.2.2).
 */
export function normaliseTarget(request: IncomingMessage): void {
  const { url = '/' } = request;
  if (url.charCodeAt(0) === SLASH) return;
  const [, host, rest = ''] = ABSOLUTE.exec(url) ?? [];
  if (host === undefined) return;
  request.headers.host = host;
  request.url = rest.startsWith('/') ? rest : `/${rest}`;
}

/** The path as it was sent, not decoded. */
export function pathOf({ url = '/' }: IncomingMessage): string {
  const end = url.indexOf('?');
  return end === -1 ? url : url.slice(0, end);
}

export function queryOf({ url = '/' }: IncomingMessage): URLSearchParams {
  const start = url.indexOf('?');
  return new URLSearchParams(start === -1 ? '' : url.slice(start + 1));
}
