/** Parses `GET /metrics` as Prometheus does. */
import { expect } from 'vitest';

/** Samples by name with labels, as they stand in the page: `pollcast_votes_total{outcome="recorded"}`. */
export async function scrape(url: string): Promise<ReadonlyMap<string, number>> {
  const response = await fetch(`${url}/metrics`);
  expect(response.status).toBe(200);
  expect(response.headers.get('content-type')).toBe('text/plain; version=0.0.4; charset=utf-8');
  return readSamples(await response.text());
}

/** Fails on what Prometheus refuses: a sample without HELP and TYPE, a repeated sample, not a number. */
export function readSamples(page: string): ReadonlyMap<string, number> {
  const samples = new Map<string, number>();
  const described = new Set<string>();
  const types = new Map<string, string>();
  expect(page.endsWith('\n')).toBe(true);
  for (const line of page.split('\n')) {
    const [, what, of, rest] = /^# (HELP|TYPE) (\w+) (.+)$/.exec(line) ?? [];
    if (what === 'HELP' && of !== undefined) described.add(of);
    else if (what === 'TYPE' && of !== undefined && rest !== undefined) types.set(of, rest);
    else if (line !== '') {
      const [, name = '', labels = '', value = ''] =
        /^([a-z_]\w*)(\{\w+="[^"]*"(?:,\w+="[^"]*")*\})? (\S+)$/.exec(line) ?? [];
      expect(name, line).not.toBe('');
      const family = types.has(name) ? name : name.replace(/_(bucket|sum|count)$/, '');
      expect(described, line).toContain(family);
      expect(types.has(family), line).toBe(true);
      expect(samples.has(name + labels), line).toBe(false);
      expect(Number(value), line).not.toBeNaN();
      samples.set(name + labels, Number(value));
    }
  }
  return samples;
}
