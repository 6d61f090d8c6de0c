/** Finds the secrets of the environment, so that the log can mask them. */
import type { Environment } from './config.ts';

/** The secrets in the environment, also those inside URLs. */
export function secretsIn(env: Environment): string[] {
  const found = [env.SECRET ?? '', env.JWT_SECRET ?? ''];
  for (const url of [env.DATABASE_URL, env.REDIS_URL]) {
    const password = /^[^:]+:\/\/[^/@]*?:(.*)@/.exec(url ?? '')?.[1];
    if (password === undefined) continue;
    found.push(password);
    try {
      found.push(decodeURIComponent(password));
    } catch {
      // The password is not percent-encoded: the value above is the password.
    }
  }
  // Ignore secrets shorter than 6 characters: masking them would garble the log. Passwords in
  // URLs are masked by position (ops/log.ts).
  return [...new Set(found)].filter((secret) => secret.length >= 6);
}
