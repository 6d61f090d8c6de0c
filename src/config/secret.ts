/** Reads the server's secret, or makes it on the first start. The only file of this room that touches the disk. */
import { randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Config } from './config.ts';

/** The secret from SECRET, else the one kept in DATA_DIR. The caller must hold the lock of the folder. */
export function readSecret(config: Config): string {
  if (config.secret !== null) return config.secret;
  const path = join(config.dataDir, 'secret');
  mkdirSync(config.dataDir, { recursive: true });
  try {
    return readFileSync(path, 'utf8').trim();
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'ENOENT')) throw error;
  }
  const secret = randomBytes(32).toString('hex');
  writeFileSync(path, `${secret}\n`, { mode: 0o600, flag: 'wx' });
  return secret;
}
