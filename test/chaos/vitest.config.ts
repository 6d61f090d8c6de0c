import { defineConfig, mergeConfig } from 'vitest/config';
import base from '../../vitest.config.ts';

export default mergeConfig(
  { ...base, test: { ...base.test, include: [] } },
  defineConfig({
    root: new URL('../..', import.meta.url).pathname,
    test: { include: ['test/chaos/long.chaos.ts'] },
  }),
);
