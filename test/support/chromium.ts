import { type Browser, chromium } from 'playwright-core';
import { requireProgram } from './programs.ts';

const ARGS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

/** A headless browser with its own profile. Disposing closes it and its pages. */
export async function launchChromium(): Promise<AsyncDisposable & { readonly browser: Browser }> {
  const browser = await chromium.launch({ executablePath: requireProgram('chromium'), args: ARGS });
  return { browser, [Symbol.asyncDispose]: () => browser.close() };
}
