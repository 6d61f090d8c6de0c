// Where a server spent its time: `node profile.mjs profiles/<file>.cpuprofile [how many]`, made by `run.mjs --profile`.
import { readFileSync } from 'node:fs';

const [file, count = '30'] = process.argv.slice(2);
const { nodes, samples, timeDeltas } = JSON.parse(readFileSync(file, 'utf8'));

const byId = new Map(nodes.map((node) => [node.id, node]));
const spent = new Map();
let total = 0;
samples.forEach((id, i) => {
  const { functionName, url, lineNumber } = byId.get(id).callFrame;
  const where = url === '' ? '' : ` ${url.replace(/^.*\/(node_modules|dist|bench)\//, '$1/')}:${lineNumber + 1}`;
  const name = `${functionName || '(anonymous)'}${where}`;
  spent.set(name, (spent.get(name) ?? 0) + timeDeltas[i]);
  total += timeDeltas[i];
});

const busy = total - (spent.get('(idle)') ?? 0);
console.log(
  `${(total / 1e6).toFixed(1)} s sampled, ${((busy / total) * 100).toFixed(0)} % busy; shares are of the busy time, own time only`,
);
spent.delete('(idle)');
for (const [name, time] of [...spent].sort((a, b) => b[1] - a[1]).slice(0, Number(count))) {
  console.log(`${((time / busy) * 100).toFixed(1).padStart(5)} %  ${(time / 1000).toFixed(0).padStart(6)} ms  ${name}`);
}
