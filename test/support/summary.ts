import type { Reporter, TestModule, TestRunEndReason } from 'vitest/node';

/**
 * Prints `N passed, N failed` (and `, N skipped` if any) as the last line of the run. What fails outside a test counts
 * as one failure each: a file that cannot load, a hook, a stray error. A run that exits with an error never says `0 failed`.
 */
export default class Summary implements Reporter {
  private passed = 0;
  private failed = 0;
  private skipped = 0;

  onInit(): void {
    // At exit: after every other reporter and after the global teardown, and the exit code is known.
    process.once('exit', (code) => {
      const failed = this.failed === 0 && code !== 0 ? 1 : this.failed;
      const skipped = this.skipped > 0 ? `, ${this.skipped} skipped` : '';
      process.stdout.write(`${this.passed} passed, ${failed} failed${skipped}\n`);
    });
  }

  onTestRunEnd(modules: readonly TestModule[], strayErrors: readonly unknown[], reason: TestRunEndReason): void {
    const states = modules.flatMap((module) => [...module.children.allTests()].map((test) => test.result().state));
    const holders = modules.flatMap((module) => [module, ...module.children.allSuites()]);
    const count = (state: string) => states.filter((each) => each === state).length;
    this.passed = count('passed');
    this.skipped = count('skipped');
    this.failed = count('failed') + holders.filter((each) => each.errors().length > 0).length + strayErrors.length;
    if (this.failed === 0 && reason !== 'passed') this.failed = 1;
  }
}
